"""The policy outside of the stream's core: its engine's process, its bundles, and the gate."""
