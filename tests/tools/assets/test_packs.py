import hashlib
import json
import re
from dataclasses import asdict

import pytest

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.assets import asset_dir, assets_root
from line_neurons.tools.assets.packs import GROUPS, PACKS, find, select


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_everything_in_the_table_is_pinned(pack):
    hashes = [pack.tree_sha256, *pack.pinned.values(), *(artifact.sha256 for artifact in pack.artifacts)]
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in hashes)
    assert pack.installed_bytes > 0
    assert all(artifact.size > 0 for artifact in pack.artifacts)
    assert len({artifact.filename for artifact in pack.artifacts}) == len(pack.artifacts)


def test_the_table_of_archives_rules_and_hashes_is_the_released_one():
    rows = [
        {key: value for key, value in asdict(pack).items() if key not in {"title", "licence", "content_sha256"}}
        for pack in PACKS
    ]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    assert digest == "d237a54f15c45b01c4e42009ebc3b8fd1987605e6da1ecebf967eed74f21ddba"


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_packs_from_debian_are_pinned_by_content_too(pack):
    from_debian = "debian" in {artifact.source for artifact in pack.artifacts}
    assert bool(re.fullmatch(r"[0-9a-f]{64}", pack.content_sha256)) == from_debian


def test_the_weights_file_carries_the_start_of_its_hash_in_its_name():
    (name,) = find("mobilenet_v2").pinned
    assert find("mobilenet_v2").pinned[name].startswith(name.split("-")[1].removesuffix(".pth"))


def test_groups_hold_packs_that_exist_and_test_holds_demo():
    assert {name for names in GROUPS.values() for name in names} <= {pack.name for pack in PACKS}
    assert set(GROUPS["demo"]) < set(GROUPS["test"])


def test_select_takes_groups_and_packs_once_each():
    assert [pack.name for pack in select(["wordnet", "demo", "stamps"])] == [*GROUPS["demo"], "wordnet"]


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match=r"'demmo'.*near: demo; choose from mobilenet_v2,.*, demo, test, edits"):
        select(["demmo"])


def test_the_root_is_the_environments_or_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LINE_ASSETS", str(tmp_path))
    assert assets_root() == tmp_path
    monkeypatch.delenv("LINE_ASSETS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert assets_root().parts[-2:] == ("line-neurons", "assets")


def test_a_pack_that_is_not_installed_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("LINE_ASSETS", str(tmp_path))
    with pytest.raises(MissingPartError, match=r"'stamps' is not installed \(line assets install stamps\)"):
        asset_dir("stamps")
