"""Networks executed layer by layer as planned: with the chosen primitives, within their own memory."""
