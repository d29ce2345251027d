"""Why nothing was compiled, in words for a user."""

_MEANINGS = (
    (
        ("InvalidCxxCompiler", "No working C++ compiler"),
        "there is no C++ compiler (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)",
    ),
    (
        ("TritonMissing", "working triton installation"),
        "there is no Triton for this GPU (Linux and WSL2: pip install triton)",
    ),
    (
        ("GPUTooOldForTriton", "too old to be supported by the triton"),
        "this GPU is too old for Triton, which wants compute capability 7.0",
    ),
    (
        ("Python.h: No such file", "'Python.h' file not found"),
        "Python's headers are missing (Debian, Ubuntu: apt install python3-dev)",
    ),
    (
        ("cuda.h: No such file", "cuda_runtime.h: No such file", "CUDA_HOME"),
        "the CUDA toolkit's headers are missing (install the toolkit, or set CUDA_HOME)",
    ),
    (
        ("cannot find -lcuda",),
        "the linker does not find libcuda.so (is the NVIDIA driver installed?)",
    ),
    (
        ("GLIBC_", "GLIBCXX_"),
        "the C or C++ library of this system is too old for what was compiled",
    ),
    (
        ("MemoryError", "OutOfMemoryError", "out of memory", "cc1plus: out of memory"),
        "there was not enough memory to compile",
    ),
    (("No space left on device",), "the disk is full"),
)
"""Signs in what an exception says, and what they mean."""


def explain(error: BaseException) -> str:
    """What `error` of a compiler or of loading compiled code means, and what would help."""
    return explain_text(f"{type(error).__name__}: {error}")


def explain_text(said: str) -> str:
    """As `explain`, from the text alone."""
    for signs, meaning in _MEANINGS:
        if any(sign in said for sign in signs):
            return meaning
    first = next((line for line in said.splitlines() if line.strip()), "nothing was said")
    return f"the compiler failed: {first.strip()[:300]}"
