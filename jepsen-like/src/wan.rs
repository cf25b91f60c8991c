//! Hosts in network namespaces behind a WAN that the harness emulates packet by packet.
