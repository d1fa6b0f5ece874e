"""ustack addr, link, route, rule, neigh, nexthop and monitor: the grammar and the words of iproute2 6.1."""
