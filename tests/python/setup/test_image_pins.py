"""Container images, conda environments and lock file name the same versions."""

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


def pinned(folder: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", (folder / "requirements.txt").read_text(), re.M))


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
    text = (folder / "requirements.txt").read_text()
    assert set(re.findall(r"sha256:[0-9a-f]{64}", text)) <= set(
        re.findall(r"sha256:[0-9a-f]{64}", (ROOT / "uv.lock").read_text())
    )


@pytest.mark.parametrize("folder", IMAGES, ids=lambda folder: folder.name)
def test_images_hold_no_pipeline_code_and_no_host_settings(folder: Path) -> None:
    stages = (folder / "Dockerfile").read_text().split("\nFROM ")
    assert len(stages) == 3  # arguments, build, image
    assert re.findall(r"^COPY (.*)$", stages[1], re.M) == ["requirements.txt ca.cr[t] /build/"]
    assert re.findall(r"^COPY (.*)$", stages[2], re.M) == ["--from=build /opt/vcb /opt/vcb"]
    assert "procps" in stages[2]


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
