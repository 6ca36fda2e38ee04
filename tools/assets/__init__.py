"""Asset packs: weights and images inside registry packages, installed on demand."""

from line_neurons.tools.assets.location import asset_dir, assets_root

__all__ = ["asset_dir", "assets_root"]
