"""The native library, from the C++ of both rooms. Everything else about the package is in pyproject.toml."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
ROOMS = ("quant", "zaya_core")
GCC_FLAGS = ("-O3", "-std=c++17", "-fvisibility=hidden", "-ffp-contract=off")
MSVC_FLAGS = ("/O2", "/std:c++17", "/fp:precise", "/Zc:__cplusplus", "/EHsc")
STRIP = "-Wl,-x" if sys.platform == "darwin" else "-Wl,-s"


def found(suffix: str) -> list[str]:
    """Files of both rooms, as paths from here."""
    paths = (path for room in ROOMS for path in (HERE / room).rglob(f"*{suffix}"))
    return sorted(path.relative_to(HERE).as_posix() for path in paths)


class BuildLibrary(build_ext):
    """With the flags of the compiler that is there."""

    def build_extensions(self) -> None:
        """Every extension with its flags."""
        is_msvc = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            extension.extra_compile_args = list(MSVC_FLAGS if is_msvc else GCC_FLAGS)
            extension.extra_link_args = [] if is_msvc else [STRIP]
        super().build_extensions()


setup(
    cmdclass={"build_ext": BuildLibrary},
    ext_modules=[
        Extension(
            "quant.kernels._native",
            sources=found(".cpp"),
            depends=[*found(".h"), *found(".inc")],
            include_dirs=["."],
            language="c++",
            optional=True,  # without a C++ compiler the install succeeds and the products run on torch
        )
    ],
)
