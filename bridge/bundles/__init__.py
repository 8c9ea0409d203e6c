"""Layer bundles: a network as files that a device loads and executes layer by layer."""
