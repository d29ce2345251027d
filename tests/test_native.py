"""The kernels in C: how they are made, what they compute, and who computes it."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.model.packed import PackedLinear, tried_pool
from backend.model.quantize import Bits, QuantizedMatrix, quantize_matrix
from backend.native.compiler import SOURCES, CannotCompile, compile_library, find_compiler
from backend.native.pool import NativePool
from backend.native.structs import MOST_ROWS
from tests.kernels_in_c import NARROWER, native_pool

KINDS: tuple[torch.dtype | Bits, ...] = (torch.float32, torch.bfloat16, 8, 6)
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


def weight_of(kind: torch.dtype | Bits, outputs: int, inputs: int) -> Tensor | QuantizedMatrix:
    chance = torch.Generator().manual_seed(outputs + inputs)
    weight = torch.randn(outputs, inputs, generator=chance)
    return weight.to(kind) if isinstance(kind, torch.dtype) else quantize_matrix(weight, kind)


def assert_multiplies(pool: NativePool, kind: torch.dtype | Bits, rows: int, wide: bool) -> None:
    outputs, inputs = (272, 512) if wide else (37, 48)
    weight = weight_of(kind, outputs, inputs)
    plain = weight.dequantized() if isinstance(weight, QuantizedMatrix) else weight.float()
    bias, x = torch.randn(outputs), torch.randn(rows, inputs)
    found = PackedLinear.of(weight, bias, pool)(x)
    wanted = F.linear(x, plain, bias)
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 2e-4 * float(wanted.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9, MOST_ROWS, MOST_ROWS + 3])
def test_a_product_is_that_of_the_weights(kind: torch.dtype | Bits, rows: int) -> None:
    for wide in (False, True):
        assert_multiplies(native_pool(), kind, rows, wide)


@pytest.mark.parametrize("bits", [8, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_rounded_as_by_torch(bits: Bits, dtype: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(bits)
    weight = torch.randn(37, 96, generator=chance)
    weight[3], weight[5, 7] = 0.0, -9.0  # the largest of a row may be on either side
    weight[6] = torch.tensor([-1.0, 1.0]).repeat(48)
    weight[8] = torch.arange(96) * 0.5 - 24  # halves of a step
    weight[9] *= 1e-30
    weight = weight.to(dtype)
    wanted = PackedLinear.of(quantize_matrix(weight, bits), None, native_pool())
    found = PackedLinear.rounded(weight, bits, None, native_pool())
    assert torch.equal(found.packed, wanted.packed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, MOST_ROWS + 3])
def test_integers_of_sixteen_bits_cost_next_to_nothing(dtype: torch.dtype, rows: int) -> None:
    weight = torch.randn(37, 96, generator=torch.Generator().manual_seed(rows)).to(dtype)
    weight[3], weight[9] = 0.0, weight[9] * 1e-20
    x, bias = torch.randn(rows, 96), torch.randn(37)
    found = PackedLinear.rounded(weight, 16, bias, native_pool())(x)
    wanted = F.linear(x, weight.float(), bias)
    assert float((found - wanted).abs().max()) < 2e-4 * float(wanted.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_large_and_small_numbers_beside_each_other(kind: torch.dtype | Bits) -> None:
    """A row's scale is its largest number's: what is 10,000 times smaller keeps two digits."""
    linear = PackedLinear.of(weight_of(kind, 64, 64), None, native_pool())
    x = torch.randn(2, 64) * 1e-3
    quiet = linear(x)
    x[0, 5], x[1] = 10.0, 0.0
    loud = linear(x)
    x[0, 5] = 0.0
    alone = torch.zeros(1, 64)
    alone[0, 5] = 10.0
    torch.testing.assert_close(loud[:1] - linear(alone), linear(x)[:1], rtol=0, atol=5e-3)
    assert (loud[1] == 0).all()
    assert quiet.abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_makes_none(kind: torch.dtype | Bits, value: float) -> None:
    linear, x = PackedLinear.of(weight_of(kind, 48, 64), None, native_pool()), torch.randn(3, 64)
    well = linear(x)
    x[1, 33] = value
    sick = linear(x)
    assert not sick[1].isfinite().any()
    assert torch.equal(sick[[0, 2]], well[[0, 2]])


@pytest.mark.skipif(not IS_X86, reason="these are flags for x86")
@pytest.mark.parametrize("flags", NARROWER.values(), ids=NARROWER)
def test_older_processors_have_code_of_their_own(flags: list[str], tmp_path: Path) -> None:
    pool = NativePool(compile_library(tmp_path, [*find_compiler(), *flags]))
    for kind in KINDS:
        for rows in (1, 6):
            assert_multiplies(pool, kind, rows, wide=True)


@pytest.mark.slow
def test_the_compiler_that_pip_installs(tmp_path: Path) -> None:
    pool = NativePool(compile_library(tmp_path, [sys.executable, "-m", "ziglang", "cc"]))
    for kind in KINDS:
        assert_multiplies(pool, kind, 3, wide=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-aarch64-static") is None, reason="needs qemu-user-static")
@pytest.mark.parametrize("cpu", ["cortex_a72", "cortex_a76", "apple_m1"])
def test_on_processors_of_arm(cpu: str, tmp_path: Path) -> None:
    room, program = SOURCES[0].parent, tmp_path / "product"
    sources = [room / f"{name}.c" for name in ("frame", "products", "attention", "sampling")]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"]
    command += [f"-mcpu={cpu}", "-std=c11", "-O3", "-ffp-contract=fast", "-fno-math-errno"]
    command += [f"-I{room}", "-o", str(program), str(Path(__file__).parent / "native_product.c")]
    subprocess.run([*command, *map(str, sources), "-lm"], check=True)
    subprocess.run(["qemu-aarch64-static", str(program)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x86_64-windows-gnu", "aarch64-macos"])
def test_it_compiles_for_other_systems(target: str, tmp_path: Path) -> None:
    sources = [str(source) for source in SOURCES if source.suffix == ".c"]
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        target,
        "-std=c11",
        "-O3",
        "-shared",
    ]
    subprocess.run([*command, "-o", str(tmp_path / "library"), *sources, "-lm"], check=True)


def test_a_library_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    run = subprocess.run

    def counted(command: list[str], **options: object) -> object:
        kinds = {"-shared": "link", "-c": "compile"}
        calls.append(next((kind for flag, kind in kinds.items() if flag in command), "ask"))
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", counted)
    made = compile_library(tmp_path)
    assert compile_library(tmp_path) == made
    sources = sum(source.suffix == ".c" for source in SOURCES)
    assert calls == ["ask", *["compile"] * (sources - 1), "link", "ask"]
    calls.clear()
    wide = compile_library(tmp_path, is_wide=True)
    assert compile_library(tmp_path, is_wide=True) == wide != made
    assert calls == ["ask", "compile", "link", "ask"]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_old_libraries_are_removed(tmp_path: Path) -> None:
    for age in range(8):
        old = tmp_path / f"native-{age}.so"
        old.touch()
        os.utime(old, (age, age))
    made = compile_library(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert made.name in left
    assert len(left) == 4
    assert "native-4.so" not in left


def test_it_is_told_before_it_is_made_and_made_by_one_thread(tmp_path: Path) -> None:
    told: list[str] = []
    with ThreadPoolExecutor(4) as threads:
        made = {
            threads.submit(compile_library, tmp_path, before=lambda: told.append("made"))
            for _ in range(4)
        }
    assert len({each.result() for each in made}) == 1
    assert told == ["made"]


def test_a_damaged_library_is_made_anew(tmp_path: Path) -> None:
    made = compile_library(tmp_path)
    made.write_bytes(b"no library")
    assert_multiplies(tried_pool(compile_library(tmp_path)), 8, 1, wide=True)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["/no/such/compiler"], "/no/such/compiler cannot be run"),
        ([sys.executable, "-c", "import sys; sys.exit('error: no')"], "failed: error: no"),
    ],
)
def test_a_compiler_that_fails_is_told(command: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(CannotCompile, match=says):
        compile_library(tmp_path, command)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotCompile, match="cannot be kept in"):
        compile_library(tmp_path / "file" / "compiled")


def test_which_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "ccache gcc")
    assert find_compiler() == ["ccache", "gcc"]
    monkeypatch.delenv("CC")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "clang" else None)
    monkeypatch.setattr(sys, "platform", "linux")
    assert find_compiler() == ["/bin/clang"]
    monkeypatch.setattr(sys, "platform", "darwin")  # without developer tools, as here
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert find_compiler() == [sys.executable, "-m", "ziglang", "cc"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CannotCompile, match="install gcc or clang"):
        find_compiler()


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.usefixtures("_threads_as_before")
def test_threads_come_and_go() -> None:
    linear, x = PackedLinear.of(weight_of(8, 512, 256), None, native_pool()), torch.randn(5, 256)
    wanted = linear(x)
    for threads in (2, 4, 1, 3, 2, 40, 1):
        torch.set_num_threads(threads)
        for _ in range(20):
            assert torch.equal(linear(x), wanted)


@pytest.mark.usefixtures("_threads_as_before")
def test_nobody_waits_for_a_thread_that_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compile_library(tmp_path)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    pool = NativePool(library)
    linear, x = PackedLinear.of(weight_of(6, 512, 256), None, pool), torch.randn(5, 256)
    wanted = linear(x)
    torch.set_num_threads(4)
    assert torch.equal(linear(x), wanted)


@pytest.mark.usefixtures("_threads_as_before")
def test_two_threads_of_python_take_turns() -> None:
    torch.set_num_threads(2)
    pool = native_pool()
    linears = [PackedLinear.of(weight_of(kind, 256, 256), None, pool) for kind in KINDS]
    x = torch.randn(3, 256)
    wanted = [linear(x) for linear in linears]
    wrong: list[int] = []

    def ask(index: int) -> None:
        for _ in range(50):
            if not torch.equal(linears[index](x), wanted[index]):
                wrong.append(index)

    asking = [threading.Thread(target=ask, args=(index,)) for index in range(len(linears))]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert not wrong
