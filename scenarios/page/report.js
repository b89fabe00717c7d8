"use strict";
// Every section has one slider (a moment of the run) and one switch (through whose eyes); what each shows was
// computed by the server and stands in the page.
for (const section of document.querySelectorAll("section.run")) {
  const data = JSON.parse(section.querySelector("script[type='application/json']").textContent);
  const slider = section.querySelector("input[type=range]"), shown = section.querySelector("output");
  const party = section.querySelector("select");
  const role = name => name.split(":")[0];
  const size = n => {
    for (const unit of ["B", "kB", "MB"]) {
      if (n < 1000) return `${unit === "B" ? n : n.toFixed(1)} ${unit}`;
      n /= 1000;
    }
    return `${n.toFixed(1)} GB`;
  };
  const update = () => {
    const at = Number(slider.value), step = data.steps[at], last = at === data.steps.length - 1;
    const eyes = party.value ? party.value.split(", ") : [];
    const words = step < 0 ? (last ? "the whole run" : "set-up, before step 0") : `after step ${step}`;
    shown.textContent = words;
    slider.setAttribute("aria-valuetext", words);
    for (const arrow of section.querySelectorAll("g[data-number]")) {
      const k = Number(arrow.dataset.number), count = data.messages[k][at];
      arrow.querySelector(".count").textContent = count ? `${count} × · ${size(data.bytes[k][at])}` : "not yet";
      arrow.classList.toggle("none", !count);
      arrow.classList.toggle("other", eyes.length > 0 && !data.ends[k].some(end => eyes.map(role).includes(end)));
    }
    for (const row of section.querySelectorAll("tr[data-party]")) {
      const since = row.dataset.since;
      row.hidden = eyes.length > 0 && row.dataset.party !== party.value;
      row.classList.toggle("later", since !== "" && Number(since) > Math.max(step, 0) && !last);  // 0: or before
    }
    for (const box of section.querySelectorAll("[data-who]")) {
      const who = box.dataset.who ? box.dataset.who.split(", ") : [];
      box.hidden = eyes.length > 0 && who.length > 0 && !who.every(one => eyes.includes(one));
    }
    const attacks = [...section.querySelectorAll(".attack")], none = section.querySelector(".no-attack");
    if (none) none.hidden = attacks.some(box => !box.hidden);
    for (const line of section.querySelectorAll("line.now")) {
      const share = (step - Number(line.dataset.least)) / (Number(line.dataset.most) - Number(line.dataset.least));
      const x = 44 + 302 * Math.min(1, Math.max(0, share));
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
    for (const strip of section.querySelectorAll("[data-solved]")) {
      const early = strip.dataset.solved !== "" && step < Number(strip.dataset.solved) && !last;
      strip.style.backgroundPositionY = early ? "50%" : "100%";
      strip.previousElementSibling.textContent = early ? "rebuilt: not yet, so the prior's guess" : "rebuilt";
    }
  };
  slider.addEventListener("input", update);
  party.addEventListener("change", update);
  update();
}
