"""What must be computed: networks as layer graphs, requests, arrival processes."""
