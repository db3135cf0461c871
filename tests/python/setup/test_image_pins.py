"""Container images, conda environments and lock file name the same versions."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
IMAGES = sorted(path.parent for path in ROOT.glob("modules/*/*/Dockerfile"))
CONDA_NAMES = {"pytorch": "torch"}


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    return {package["name"]: package.get("version", "") for package in lock["package"]}


def direct(folder: Path) -> dict[str, str]:
    """PyPI name and version of each package in environment.yml, read by a rule of our own."""
    found = re.findall(r"^ +- (?:[\w-]+::)?([\w.-]+)==?(\S+)$", (folder / "environment.yml").read_text(), re.M)
    return {CONDA_NAMES.get(name, name): version for name, version in found if name != "python"}


def locks(folder: Path) -> str:
    """What the image installs, in one layer or two."""
    files = [folder / "requirements.txt", *folder.glob("shared.txt")]
    return "".join(path.read_text() for path in files)


def pinned(folder: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", locks(folder), re.M))


def test_every_image_is_known() -> None:
    encoders = {"esm2", "esm_msa", "prott5", "ankh3", "xtrimopglm", "esmc"}
    assert {folder.name for folder in IMAGES} >= {"prepare", "sclambda", "multiqc"} | encoders


@pytest.mark.parametrize("folder", IMAGES, ids=lambda folder: folder.name)
def test_versions_equal_the_lock(folder: Path, locked: dict[str, str]) -> None:
    packages = direct(folder)
    assert packages
    assert packages == {name: locked[name] for name in packages}
    requirements = pinned(folder)
    assert requirements == {name: locked[name] for name in requirements}
    assert packages.items() <= requirements.items()
    assert set(re.findall(r"sha256:[0-9a-f]{64}", locks(folder))) <= set(
        re.findall(r"sha256:[0-9a-f]{64}", (ROOT / "uv.lock").read_text())
    )


@pytest.mark.parametrize("folder", IMAGES, ids=lambda folder: folder.name)
def test_images_hold_no_pipeline_code_and_no_host_settings(folder: Path) -> None:
    arguments, *stages = (folder / "Dockerfile").read_text().split("\nFROM ")
    assert arguments.endswith("ARG BASE=python:3.11-slim-bookworm\n")
    copied = [re.findall(r"^COPY (.*)$", stage, re.M) for stage in stages]
    whole = "--from=build /opt/vcb /opt/vcb"
    if (folder / "shared.txt").is_file():
        rest = "--from=build /opt/own /opt/vcb/lib/python3.11/site-packages"
        assert copied == [
            ["shared.txt ca.cr[t] /build/"], ["requirements.txt /build/"], [whole.replace("build", "shared"), rest]
        ]  # fmt: skip
    else:
        assert copied == [["requirements.txt ca.cr[t] /build/"], [whole]]
    assert "procps" in stages[-1]


def test_networks_share_their_largest_layer() -> None:
    """What all protein language models need is installed from equal lines, and nothing of it again on top."""
    folders = [folder for folder in IMAGES if (folder / "shared.txt").is_file()]
    assert {folder.name for folder in folders} == {"esm2", "esm_msa", "prott5", "ankh3", "xtrimopglm", "esmc"}
    first = [(folder / "Dockerfile").read_text().split("FROM ")[1] for folder in folders]
    assert len(set(first)) == len({(folder / "shared.txt").read_text() for folder in folders}) == 1
    names = [re.findall(r"^([\w.-]+)==", locks(folder), re.M) for folder in folders]
    assert all("torch" in each and len(each) == len(set(each)) for each in names)


def imported(module: str, seen: set[str]) -> set[str]:
    """Third-party packages that a module of ours imports somewhere, and those of every module of ours it imports."""
    path = ROOT / "bin" / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if module in seen or not path.is_file():
        return set()
    seen.add(module)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            found |= imported(name, seen) if name.startswith("vcbench") else {name.split(".")[0]}
    return found


def test_networks_have_what_they_import_and_no_more() -> None:
    """Of the packages that some networks need and others do not; fair-esm is needed by none."""
    families = {
        "esm2": "esm2", "esmc": "esmc", "prott5": "t5", "ankh3": "t5", "esm_msa": "esm_msa", "xtrimopglm": "xtrimopglm",
    }  # fmt: skip
    some = {"transformers", "sentencepiece", "tokenizers", "esm", "sklearn", "scanpy"}
    for image, family in families.items():
        # ESM-MSA takes the letters from ESM2's tokens, whose check of transformers' tokenizer it does not call
        seen = {f"vcbench.encoders.{other}.tokens" for other in families.values() if other != family}
        found = imported(f"vcbench.encoders.{family}.network", seen) | imported("vcbench.encoders.encode", seen)
        assert {"torch", "safetensors"} <= found, image
        assert found & some == direct(ROOT / "modules/local" / image).keys() & some, image
    # reads the official files of every family
    convert = (ROOT / "modules/local/convert_weights/main.nf").read_text()
    assert "variantcellbench/prott5:" in convert and "prott5/environment.yml" in convert
    everything = set().union(*(direct(ROOT / "modules/local" / image) for image in families))
    assert direct(ROOT / "modules/local/prott5").keys() == everything


def test_light_image_is_light() -> None:
    assert not {"torch", "transformers", "triton"} & pinned(ROOT / "modules/local/prepare").keys()


def test_check_finds_nothing_out_of_step() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/image_pins.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_build_script_lists_one_tag_per_dockerfile() -> None:
    done = subprocess.run([ROOT / "scripts/build_images.sh", "--list"], capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(names) == len(IMAGES) == len(set(names))
    done = subprocess.run([ROOT / "scripts/build_images.sh", "lihgt"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"build_images: there is no image 'lihgt'; known: [a-z0-9_ ]+\n", done.stderr)
