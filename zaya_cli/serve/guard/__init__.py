"""What stands between the network and the routes: keys, hosts, origins, limits, the log."""
