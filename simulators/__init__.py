"""The load generator: QuTiP physics, real calibrations, whole job lifecycles, scenarios that carry their truth."""
