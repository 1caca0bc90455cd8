"""Elementwise operators and activations: one vector operation for each output element."""

from __future__ import annotations

from mmworkload.tracing.call import Call, Lowered, lowers

RELU = ("relu", "relu6", "leaky_relu", "prelu", "_prelu_kernel", "rrelu", "threshold")

ELEMENTWISE = (
    # activations
    "gelu", "silu", "mish", "sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "elu", "selu", "celu", "glu",
    "softplus", "log_sigmoid", "logit", "erf", "erfc", "erfinv", "hardshrink", "softshrink", "sinc",
    # arithmetic
    "add", "sub", "rsub", "mul", "div", "true_divide", "floor_divide", "divide", "multiply", "subtract", "remainder",
    "fmod", "pow", "square", "sqrt", "rsqrt", "reciprocal", "neg", "negative", "abs", "absolute", "sign", "sgn",
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "sinh", "cosh", "asinh", "acosh", "atanh", "floor", "ceil", "round", "trunc", "frac", "clamp", "clamp_min",
    "clamp_max", "clip", "maximum", "minimum", "fmax", "fmin", "lerp", "addcmul", "addcdiv", "nan_to_num", "hypot",
    "xlogy", "angle", "polar", "complex", "float_power", "copysign", "logaddexp", "logaddexp2", "ldexp", "deg2rad",
    "rad2deg", "lgamma", "digamma", "heaviside", "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout",
    "native_dropout", "cross", "linalg_cross", "frexp", "gcd", "lcm", "i0", "igamma", "igammac", "mvlgamma",
    "nextafter", "polygamma", "renorm", "native_dropout_backward", "arccos", "arccosh", "arcsin", "arcsinh", "arctan",
    "arctan2", "arctanh", "fix", "linalg_vander", "vander",
    # comparison and logic
    "eq", "ne", "lt", "le", "gt", "ge", "greater", "less", "greater_equal", "less_equal", "not_equal", "logical_and",
    "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "__and__",
    "__or__", "__xor__", "__lshift__", "__rshift__", "bitwise_left_shift", "bitwise_right_shift", "isnan", "isinf",
    "isposinf", "isneginf", "isfinite", "isclose", "isreal", "signbit", "isin", "where", "masked_fill", "bucketize",
    "searchsorted",
)  # fmt: skip

RANDOM = (
    "bernoulli", "normal", "uniform", "exponential", "log_normal", "cauchy", "geometric", "random", "poisson",
    "binomial",
)  # fmt: skip


def _name(call: Call) -> str:
    name = call.operator.removeprefix("aten.")
    return name if name.startswith("__") else name.rstrip("_")


@lowers(*(f"aten.{name}" for name in RELU))
def relu(call: Call) -> Lowered:
    return Lowered(_name(call).removeprefix("_").removesuffix("_kernel"), "Relu", vector_ops=call.output.elements)


@lowers(*(f"aten.{name}" for name in RANDOM))
def random(call: Call) -> Lowered:
    """In place, the target is written and not read."""
    reads = None
    if call.in_place:
        reads = tuple((value, value.bytes) for value in call.tensors[1:])
    return Lowered(_name(call), "Elewise", vector_ops=call.output.elements, reads=reads)


# Special functions count as one operation, as exp and erf do.
SPECIAL = (
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "chebyshev_polynomial_t", "chebyshev_polynomial_u",
    "chebyshev_polynomial_v", "chebyshev_polynomial_w", "entr", "erfcx", "hermite_polynomial_h",
    "hermite_polynomial_he", "i0e", "i1", "i1e", "laguerre_polynomial_l", "legendre_polynomial_p", "log_ndtr",
    "modified_bessel_i0", "modified_bessel_i1", "modified_bessel_k0", "modified_bessel_k1", "ndtr", "ndtri",
    "polygamma", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1", "shifted_chebyshev_polynomial_t",
    "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v", "shifted_chebyshev_polynomial_w",
    "spherical_bessel_j0", "xlog1py", "zeta", "digamma", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammainc",
    "gammaincc", "gammaln", "i0", "log1p", "logit", "multigammaln", "psi", "round", "sinc", "xlogy",
)  # fmt: skip


@lowers(*(f"aten.{name}" for name in ELEMENTWISE), *(f"aten.special_{name}" for name in SPECIAL))
def elementwise(call: Call) -> Lowered:
    return Lowered(_name(call).strip("_"), "Elewise", vector_ops=call.output.elements)
