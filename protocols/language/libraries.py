"""What the steps of a protocol may use: an allow-list of libraries, of some with their members.

Files, the network, clocks, processes and generators that a whole process shares are in none of them. A name
that is missing and harmless may be added.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

_ARRAYS = """
    abs all allclose any append arange argmax argmin argpartition argsort array array_equal array_split
    asarray ascontiguousarray atleast_1d atleast_2d average bincount bitwise_count block broadcast_arrays
    broadcast_shapes broadcast_to ceil clip column_stack concatenate convolve corrcoef count_nonzero cov
    cross cumprod cumsum delete diag diagonal diff digitize dot dstack dtype e einsum empty empty_like
    errstate expand_dims eye finfo flatnonzero flip floor frombuffer fromiter full full_like gradient
    histogram hsplit hstack indices identity iinfo inf inner insert interp intersect1d isclose isin kron
    lexsort
    linspace logspace matmul max may_share_memory mean median meshgrid min min_scalar_type moveaxis nan
    nan_to_num nanmean ndarray ndim ndindex newaxis nonzero ones ones_like outer packbits pad partition
    percentile pi polyfit polyval prod promote_types ptp quantile ravel ravel_multi_index repeat reshape
    resize result_type roll rot90 searchsorted setdiff1d shape shares_memory sign sinc size sort split squeeze
    stack std sum swapaxes take take_along_axis tensordot tile trace transpose trapezoid tril triu union1d
    unique unpackbits unravel_index vander vdot vsplit vstack where zeros zeros_like fft.fft fft.fft2
    fft.fftfreq fft.ifft fft.ifft2 fft.irfft fft.rfft linalg.cholesky linalg.cond linalg.det linalg.eig
    linalg.eigh linalg.eigvalsh linalg.inv linalg.LinAlgError linalg.lstsq linalg.matrix_rank linalg.norm
    linalg.pinv linalg.qr linalg.slogdet linalg.solve linalg.svd random.Generator typing.ArrayLike
    typing.NDArray
"""
_TENSORS = """
    abs addmm all allclose amax amin any arange argmax argmin argsort as_tensor atleast_2d bmm bool cat
    ceil chunk clamp concat cos cosine_similarity count_nonzero cumsum diag diff divide dot dtype einsum
    empty empty_like equal exp eye flatten flip float float32 float64 floor from_numpy full full_like
    gather Generator get_num_threads index_select inf inference_mode int int16 int32 int64 int8 is_tensor
    isfinite isnan linspace log log1p log_softmax logsumexp long matmul max maximum mean median min
    minimum mm movedim mul neg no_grad norm ones ones_like outer permute pow prod relu reshape roll round
    scatter set_num_threads sigmoid sign sin Size softmax sort split sqrt square squeeze stack std sum
    swapaxes take tanh Tensor tensor tensordot tile topk transpose tril triu uint8 unbind unique unsqueeze
    var vstack where zeros zeros_like autograd.grad linalg.inv linalg.lstsq linalg.norm linalg.qr
    linalg.solve linalg.svd linalg.vector_norm nn.functional.avg_pool2d nn.functional.binary_cross_entropy
    nn.functional.binary_cross_entropy_with_logits nn.functional.conv1d nn.functional.conv2d
    nn.functional.conv_transpose2d nn.functional.cross_entropy nn.functional.elu nn.functional.fold
    nn.functional.gelu nn.functional.layer_norm nn.functional.leaky_relu nn.functional.linear
    nn.functional.log_softmax nn.functional.max_pool2d nn.functional.mse_loss nn.functional.nll_loss
    nn.functional.normalize nn.functional.one_hot nn.functional.pad nn.functional.relu
    nn.functional.sigmoid nn.functional.silu nn.functional.softmax nn.functional.softplus
    nn.functional.tanh nn.functional.unfold
"""
_NUMBERS = {
    name
    for name, value in vars(np).items()  # `dir` names modules too that numpy would import only now
    if isinstance(value, np.ufunc) or (isinstance(value, type) and issubclass(value, np.generic))
}

# None: every member. Of `functools` no cache: `protocols.language.confine.shared` is one that cannot be
# written to.
LIBRARIES: Mapping[str, frozenset[str] | None] = MappingProxyType({
    # not `opened`
    "protocols.language.session": frozenset(["At", "Located", "NO_ROUND", "Revealed", "Session", "Step"]),
    "numpy": frozenset(_ARRAYS.split()) | _NUMBERS,
    "torch": frozenset(_TENSORS.split()),
    "functools": frozenset(["partial", "reduce", "wraps"]),
    "scipy": frozenset(["linalg", "special", "optimize", "fft", "signal"]),
    **dict.fromkeys(
        ["protocols", "__future__", "abc", "collections", "contextlib", "dataclasses", "enum",
         "fractions", "hashlib", "itertools", "math", "numbers", "operator", "re", "string", "types",
         "typing"]
    ),
})  # fmt: skip

# For the schemes of `protocols.crypto` alone: libraries of big integers, groups and ciphers, and what they
# run on.
NATIVE: Mapping[str, frozenset[str] | None] = MappingProxyType(dict.fromkeys([
    "concurrent.futures", "cryptography.exceptions", "cryptography.hazmat.primitives", "ctypes", "flint",
    "functools", "gmpy2", "mclbn256", "os", "phe", "py_arkworks_bls12381", "struct", "tenseal", "threading",
]))  # fmt: skip

# What draws from a generator of its library unless it is given one, and the same as methods of a tensor.
DRAWING = frozenset(
    ["numpy.random.default_rng", "torch.bernoulli", "torch.multinomial", "torch.normal", "torch.rand",
     "torch.randint", "torch.randn", "torch.randperm"]
)  # fmt: skip
DRAWING_METHODS = frozenset(
    ["bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_",
     "random_", "uniform_"]
)  # fmt: skip
