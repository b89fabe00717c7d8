"""Studies: cells that are kept, resumed, refused; their rows as JSON and CSV."""

from dataclasses import dataclass

import pytest

from protocols.language.errors import ConfigError, DataError
from scenarios.study.study import Cell, Interrupted, Study, begun, carry_out, cell_path, plain_row, write_csv


@dataclass(frozen=True)
class Square:
    """A row."""

    of: int
    value: int
    note: str | None = None


def study(work, count=4, **more):
    return Study(
        "squares",
        Square,
        {"study": "squares", "count": count},
        [Cell(str(i), work, (i,)) for i in range(count)],
        **more,
    )


def square(i):
    return [Square(i, i * i)]


def test_rows_come_in_order_and_are_kept(tmp_path):
    rows = carry_out(study(square), tmp_path)
    assert rows == [Square(i, i * i) for i in range(4)] == carry_out(study(None), tmp_path)
    assert carry_out(study(square), None) == rows


def test_a_study_that_was_stopped_goes_on_with_what_is_missing(tmp_path):
    def stop(i):
        if i == 2:
            raise KeyboardInterrupt
        return square(i)

    with pytest.raises(Interrupted, match=f"2 of 4 cells are kept: .* --out {tmp_path}"):
        carry_out(study(stop), tmp_path)
    done, made = [], []
    rows = carry_out(study(lambda i: done.append(i) or square(i), before=made.append), tmp_path)
    assert done == [2, 3] and len(rows) == 4 and len(made) == 1


def test_rows_that_do_not_last_are_tried_again(tmp_path):
    first = study(square, lasting=lambda rows: rows[0].value != 4)
    carry_out(first, tmp_path)
    assert [cell_path(tmp_path, str(i)).exists() for i in range(4)] == [True, True, False, True]


def test_other_settings_and_foreign_folders_are_refused_in_one_line(tmp_path):
    folder, settings = begun("squares", tmp_path / "a", {"count": 4})
    carry_out(Study("squares", Square, settings, []), folder)
    assert begun("squares", folder, {"count": 4}) == (folder, settings)
    with pytest.raises(ConfigError, match="begun with other options .count."):
        begun("squares", folder, {"count": 5})
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="not empty"):
        begun("squares", tmp_path, {"count": 4})


@pytest.mark.parametrize(
    "content", ["", "[]", '{"rows": [{"of": 1}]}', '{"rows": [{"of": 1, "value": 1, "x": 2}]}']
)
def test_a_cell_that_is_none_says_what_to_do(tmp_path, content):
    carry_out(study(square), tmp_path)
    cell_path(tmp_path, "1").write_text(content)
    with pytest.raises(DataError, match="1.json: .* remove it, and this part is done again"):
        carry_out(study(square), tmp_path)


def test_a_table_has_a_column_for_every_name(tmp_path):
    rows = [plain_row(Square(1, 1)), plain_row(Square(2, 4, "even"))]
    assert rows[0] == {"of": 1, "value": 1}
    write_csv(tmp_path / "rows.csv", rows)
    assert (tmp_path / "rows.csv").read_text().split() == ["of,value,note", "1,1,", "2,4,even"]
