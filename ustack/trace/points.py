"""The points a packet can pass, by Linux's names: a closed list.

A point is mentioned at exactly one place in the sources, where the step is taken: that is its file and line.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

#: Floors from the wire up; who draws a way stacks them so.
FLOORS: Final = ("wire", "device", "neighbour", "routing", "netfilter", "ipv4", "icmp", "udp", "tcp", "raw", "socket")


class Point(Enum):
    """(Linux's function, floor, file below ustack/, our function)."""

    # wire: rings, cables, TAPs
    TAP_READ = ("tun_do_read", "wire", "io/tap.py", "TapNic._begin")
    TAP_WRITE = ("tun_get_user", "wire", "io/tap.py", "TapNic._written")
    E1000_RX_MISSED = ("e1000_update_stats", "wire", "device/ring.py", "NicRegisters._overrun")
    VETH_XMIT = ("veth_xmit", "wire", "device/cable.py", "Lane._take")
    NETEM_ENQUEUE = ("netem_enqueue", "wire", "device/cable.py", "Lane._tell_fate")
    NETEM_CORRUPT = ("netem_enqueue", "wire", "device/cable.py", "Lane._corrupted")
    TFIFO_ENQUEUE = ("tfifo_enqueue", "wire", "device/cable.py", "Lane._tell_due")
    NETEM_OVERLIMITS = ("netem_enqueue", "wire", "device/cable.py", "Lane._overlimit")
    NETEM_DEQUEUE = ("netem_dequeue", "wire", "device/cable.py", "Lane._arrive")
    # device: net/core/dev.c, drivers, bridges
    E1000_CLEAN_RX_IRQ = ("e1000_clean_rx_irq", "device", "device/e1000.py", "E1000._trace_rx")
    PROCESS_BACKLOG = ("process_backlog", "device", "device/loopback.py", "Loopback.poll")
    DEV_QUEUE_XMIT = ("__dev_queue_xmit", "device", "device/core.py", "Devices.dev_queue_xmit")
    VALIDATE_XMIT_SKB = ("validate_xmit_skb", "device", "device/core.py", "Devices.dev_queue_xmit")
    SKB_CHECKSUM_HELP = ("skb_checksum_help", "device", "device/gso.py", "csum_help")
    SKB_GSO_SEGMENT = ("skb_gso_segment", "device", "device/gso.py", "_trace_segments")
    TCP_GSO_SEGMENT = ("tcp_gso_segment", "device", "device/gso.py", "_trace_segments")
    DEV_XMIT_SKB = ("__dev_xmit_skb", "device", "device/core.py", "Devices._xmit")
    PFIFO_ENQUEUE = ("pfifo_enqueue", "device", "device/core.py", "Devices._xmit")
    PFIFO_DEQUEUE = ("qdisc_dequeue_head", "device", "device/core.py", "Devices._run_queue")
    DEV_REQUEUE_SKB = ("dev_requeue_skb", "device", "device/core.py", "Devices._run_queue")
    DEV_HARD_START_XMIT = ("dev_hard_start_xmit", "device", "device/core.py", "Devices._start")
    LOOPBACK_XMIT = ("loopback_xmit", "device", "device/loopback.py", "Loopback.start_xmit")
    E1000_MAYBE_STOP_TX = ("e1000_maybe_stop_tx", "device", "device/e1000.py", "E1000._maybe_stop_tx")
    E1000_XMIT_FRAME = ("e1000_xmit_frame", "device", "device/e1000.py", "E1000.start_xmit")
    E1000_DOWN = ("e1000_down", "device", "device/e1000.py", "E1000._lose")
    NETIF_RECEIVE_SKB = ("netif_receive_skb", "device", "device/core.py", "Devices.netif_receive_skb")
    # bridges: net/bridge
    BR_HANDLE_FRAME = ("br_handle_frame", "device", "device/bridge.py", "Bridge.br_handle_frame")
    BR_FDB_UPDATE = ("br_fdb_update", "device", "device/bridge.py", "Bridge._learn")
    BR_PASS_FRAME_UP = ("br_pass_frame_up", "device", "device/bridge.py", "Bridge._br_pass_frame_up")
    BR_DEV_XMIT = ("br_dev_xmit", "device", "device/bridge.py", "Bridge.start_xmit")
    BR_FORWARD = ("br_forward", "device", "device/bridge.py", "Bridge._br_forward")
    BR_FLOOD = ("br_flood", "device", "device/bridge.py", "Bridge._br_flood")
    BR_DEV_QUEUE_PUSH_XMIT = ("br_dev_queue_push_xmit", "device", "device/bridge.py", "Bridge._send")
    # neighbour: net/core/neighbour.c, net/ipv4/arp.c
    NEIGH_HH_OUTPUT = ("neigh_hh_output", "neighbour", "neighbour/table.py", "Neighbour.output")
    NEIGH_RESOLVE_OUTPUT = (
        "neigh_resolve_output",
        "neighbour",
        "neighbour/table.py",
        "NeighbourTable.neigh_resolve_output",
    )
    NEIGH_EVENT_SEND = ("__neigh_event_send", "neighbour", "neighbour/table.py", "NeighbourTable._enqueue")
    NEIGH_TIMER_HANDLER = (
        "neigh_timer_handler",
        "neighbour",
        "neighbour/table.py",
        "NeighbourTable.neigh_timer_handler",
    )
    NEIGH_UPDATE = ("neigh_update", "neighbour", "neighbour/table.py", "NeighbourTable._tell_update")
    NEIGH_UPDATE_PROCESS_ARP_QUEUE = (
        "neigh_update_process_arp_queue",
        "neighbour",
        "neighbour/table.py",
        "NeighbourTable._send_queued",
    )
    ARP_SOLICIT = ("arp_solicit", "neighbour", "neighbour/arp.py", "Arp.solicit")
    ARP_SEND = ("arp_send_dst", "neighbour", "neighbour/arp.py", "Arp.arp_send")
    ARP_RCV = ("arp_rcv", "neighbour", "neighbour/arp.py", "Arp.handle")
    ARP_PROCESS = ("arp_process", "neighbour", "neighbour/arp.py", "Arp._finish")
    PNEIGH_ENQUEUE = ("pneigh_enqueue", "neighbour", "neighbour/pneigh.py", "ProxyTable.pneigh_enqueue")
    # routing: net/ipv4/route.c, fib_rules.c, fib_trie.c
    FIB_LOOKUP_IN = ("fib_lookup", "routing", "routing/route_input.py", "RouteInput._lookup")
    FIB_SELECT_MULTIPATH = ("fib_select_multipath", "routing", "routing/route_input.py", "RouteInput._ip_mkroute_input")
    FIB_VALIDATE_SOURCE = (
        "fib_validate_source",
        "routing",
        "routing/validate.py",
        "SourceValidation.fib_validate_source",
    )
    IP_ROUTE_INPUT = ("ip_route_input_slow", "routing", "routing/route_input.py", "RouteInput.ip_route_input_rcu")
    FIB_LOOKUP_OUT = ("fib_lookup", "routing", "routing/route_output.py", "RouteOutput.ip_route_output_key_hash_rcu")
    FIB_SELECT_PATH = ("fib_select_path", "routing", "routing/route_output.py", "RouteOutput._by_route")
    IP_ROUTE_OUTPUT = ("ip_route_output_key_hash_rcu", "routing", "routing/route.py", "Routing.ip_route_output")
    IP_RT_UPDATE_PMTU = ("__ip_rt_update_pmtu", "routing", "routing/route.py", "Routing.ip_rt_update_pmtu")
    IP_DO_REDIRECT = ("__ip_do_redirect", "routing", "routing/redirect.py", "Redirects.ip_do_redirect")
    IP_QUEUE_XMIT_DST = ("__sk_dst_check", "routing", "ipv4/output.py", "Ipv4Output.ip_queue_xmit")
    # netfilter
    NF_HOOK_SLOW = ("nf_hook_slow", "netfilter", "netfilter/hooks.py", "Hooks._call")
    NF_QUEUE = ("nf_queue", "netfilter", "netfilter/hooks.py", "Hooks._enqueue")
    NF_REINJECT = ("nf_reinject", "netfilter", "netfilter/hooks.py", "Hooks.nf_reinject")
    # icmp
    ICMP_RCV = ("icmp_rcv", "icmp", "ipv4/icmp.py", "Icmp.handler")
    ICMP_REPLY = ("icmp_reply", "icmp", "ipv4/icmp.py", "Icmp._reply")
    ICMP_SOCKET_DELIVER = ("icmp_socket_deliver", "icmp", "ipv4/icmp.py", "Icmp._socket_deliver")
    PING_RCV = ("ping_rcv", "icmp", "ipv4/icmp.py", "Icmp._echo_reply")
    ICMP_SEND = ("__icmp_send", "icmp", "ipv4/icmp_send.py", "IcmpErrors.icmp_send")
    ICMP_PUSH_REPLY = ("icmp_push_reply", "icmp", "ipv4/icmp_send.py", "IcmpErrors.send")
    # udp
    UDP_SENDMSG = ("udp_sendmsg", "udp", "udp/sock.py", "UdpSock.sendmsg")
    SK_DST_CHECK = ("sk_dst_check", "routing", "ipv4/datagram.py", "InetDatagramSock.route")
    IP_APPEND_DATA = ("ip_append_data", "udp", "udp/sock.py", "UdpSock._append")
    UDP_PUSH_PENDING_FRAMES = ("udp_push_pending_frames", "udp", "udp/sock.py", "UdpSock.push_pending")
    UDP_SEND_SKB = ("udp_send_skb", "udp", "udp/sock.py", "UdpSock._send")
    UDP_V4_EARLY_DEMUX = ("udp_v4_early_demux", "udp", "udp/udp.py", "Udp.early_demux")
    UDP_RCV = ("udp_rcv", "udp", "udp/udp.py", "Udp.handler")
    UDP4_LIB_LOOKUP = ("__udp4_lib_lookup", "udp", "udp/udp.py", "Udp.handler")
    UDP_QUEUE_RCV_SKB = ("udp_queue_rcv_skb", "udp", "udp/udp.py", "Udp.handler")
    UDP4_LIB_MCAST_DELIVER = ("__udp4_lib_mcast_deliver", "udp", "udp/udp.py", "Udp._mcast_deliver")
    UDP4_LIB_ERR = ("__udp4_lib_err", "udp", "udp/udp.py", "Udp.err_handler")
    UDP_RECVMSG = ("udp_recvmsg", "udp", "udp/sock.py", "UdpSock.try_recv")
    # tcp
    TCP_SENDMSG = ("tcp_sendmsg", "tcp", "tcp/send.py", "tcp_sendmsg")
    TCP_V4_CONNECT = ("tcp_v4_connect", "tcp", "tcp/connect.py", "tcp_v4_connect")
    TCP_SEND_SYN_DATA = ("tcp_send_syn_data", "tcp", "tcp/fastopen_syn.py", "send_with_data")
    TCP_WRITE_XMIT = ("tcp_write_xmit", "tcp", "tcp/output.py", "tcp_write_xmit")
    TCP_WRITE_HELD = ("tcp_write_xmit", "tcp", "tcp/output.py", "tcp_write_done")
    TCP_MTU_PROBE = ("tcp_mtu_probe", "tcp", "tcp/mtu.py", "send_probe")
    TCP_SEND_FIN = ("tcp_send_fin", "tcp", "tcp/output.py", "tcp_send_fin")
    TCP_WRITE_WAKEUP = ("tcp_write_wakeup", "tcp", "tcp/output.py", "tcp_write_wakeup")
    TCP_TSQ_HANDLER = ("tcp_tsq_handler", "tcp", "tcp/output.py", "tcp_tsq_handler")
    TCP_RETRANSMIT_SKB = ("__tcp_retransmit_skb", "tcp", "tcp/retransmit.py", "transmit_again")
    TCP_TRANSMIT_SKB = ("__tcp_transmit_skb", "tcp", "tcp/transmit.py", "tcp_send_segment")
    TCP_SEND_ACK = ("__tcp_send_ack", "tcp", "tcp/transmit.py", "tcp_send_ack")
    TCP_QUEUE_ACK = ("__tcp_ack_snd_check", "tcp", "tcp/transmit.py", "tcp_queue_ack")
    TCP_DEF_READABLE = ("sock_def_readable", "tcp", "tcp/notify.py", "tell")
    TCP_BATCH_END = ("__tcp_ack_snd_check", "tcp", "tcp/protocol.py", "BatchEnd.acknowledge")
    TCP_SEND_DELAYED_ACK = ("tcp_send_delayed_ack", "tcp", "tcp/delack.py", "tcp_send_delayed_ack")
    TCP_COMPRESS_ACK = ("__tcp_ack_snd_check", "tcp", "tcp/compress.py", "tcp_compress_ack")
    TCP_CLEANUP_RBUF = ("tcp_cleanup_rbuf", "tcp", "tcp/receive.py", "tcp_cleanup_rbuf")
    TCP_SEND_CHALLENGE_ACK = ("tcp_send_challenge_ack", "tcp", "tcp/challenge.py", "tcp_send_challenge_ack")
    TCP_SEND_DUPACK = ("tcp_send_dupack", "tcp", "tcp/input.py", "send_dupack")
    TCP_SEND_ACTIVE_RESET = ("tcp_send_active_reset", "tcp", "tcp/finish.py", "tcp_send_active_reset")
    TCP_V4_SEND_RESET = ("tcp_v4_send_reset", "tcp", "tcp/reply.py", "tcp_v4_send_reset")
    TCP_V4_SEND_ACK = ("tcp_v4_send_ack", "tcp", "tcp/mini.py", "MiniSock.tcp_v4_send_ack")
    TCP_V4_SEND_SYNACK = ("tcp_v4_send_synack", "tcp", "tcp/request.py", "RequestSock.send_synack")
    TCP_WRITE_TIMER_HANDLER = ("tcp_write_timer_handler", "tcp", "tcp/timers.py", "RetransmitTimer.fire")
    TCP_DELACK_TIMER = ("tcp_delack_timer", "tcp", "tcp/timers.py", "DelackTimer.fire")
    TCP_KEEPALIVE_TIMER = ("tcp_keepalive_timer", "tcp", "tcp/timers.py", "KeepaliveTimer.fire")
    TCP_PACE_KICK = ("tcp_pace_kick", "tcp", "tcp/timers.py", "PacingTimer.fire")
    TCP_COMPRESSED_ACK_KICK = ("tcp_compressed_ack_kick", "tcp", "tcp/compress.py", "CompressedAckTimer.fire")
    REQSK_TIMER_HANDLER = ("reqsk_timer_handler", "tcp", "tcp/request.py", "RequestSock.fire")
    TCP_V4_EARLY_DEMUX = ("tcp_v4_early_demux", "tcp", "tcp/protocol.py", "Tcp.early_demux")
    TCP_V4_RCV = ("tcp_v4_rcv", "tcp", "tcp/protocol.py", "Tcp.handler")
    INET_LOOKUP_ESTABLISHED = ("__inet_lookup_established", "tcp", "tcp/protocol.py", "Tcp.handler")
    INET_LOOKUP_LISTENER = ("__inet_lookup_listener", "tcp", "tcp/protocol.py", "Tcp.to_listener")
    TCP_TIMEWAIT_STATE_PROCESS = (
        "tcp_timewait_state_process",
        "tcp",
        "tcp/timewait.py",
        "tcp_timewait_state_process",
    )
    TCP_TIME_WAIT = ("tcp_time_wait", "tcp", "tcp/timewait.py", "tcp_time_wait")
    TCP_CONN_REQUEST = ("tcp_conn_request", "tcp", "tcp/conn_request.py", "tcp_conn_request")
    TCP_CHECK_REQ = ("tcp_check_req", "tcp", "tcp/check_req.py", "tcp_check_req")
    COOKIE_V4_CHECK = ("cookie_v4_check", "tcp", "tcp/syncookies.py", "cookie_v4_check")
    TCP_V4_SYN_RECV_SOCK = ("tcp_v4_syn_recv_sock", "tcp", "tcp/accept.py", "tcp_v4_syn_recv_sock")
    INET_CSK_COMPLETE_HASHDANCE = ("inet_csk_complete_hashdance", "tcp", "tcp/accept.py", "tcp_accept_queue_add")
    TCP_RCV_SYNSENT_STATE_PROCESS = ("tcp_rcv_synsent_state_process", "tcp", "tcp/synsent.py", "tcp_rcv_synsent")
    TCP_RCV_STATE_PROCESS = ("tcp_rcv_state_process", "tcp", "tcp/input.py", "tcp_rcv_state_process")
    TCP_RCV_ESTABLISHED = ("tcp_rcv_established", "tcp", "tcp/input.py", "tcp_rcv_established")
    TCP_RCV_SLOW = ("tcp_rcv_established", "tcp", "tcp/input.py", "tcp_rcv_slow")
    TCP_VALIDATE_INCOMING = ("tcp_validate_incoming", "tcp", "tcp/input.py", "tcp_validate_incoming")
    TCP_ACK = ("tcp_ack", "tcp", "tcp/ack.py", "tcp_ack")
    TCP_OLD_ACK = ("tcp_ack", "tcp", "tcp/ack.py", "tcp_old_ack")
    TCP_ACK_NO_QUEUE = ("tcp_ack", "tcp", "tcp/ack.py", "tcp_ack_no_queue")
    TCP_SET_CA_STATE = ("tcp_set_ca_state", "tcp", "tcp/prr.py", "tcp_set_ca_state")
    TCP_SET_STATE = ("tcp_set_state", "tcp", "tcp/control.py", "TcpControl.move")
    TCP_DATA_QUEUE = ("tcp_data_queue", "tcp", "tcp/data.py", "tcp_data_queue")
    TCP_DATA_QUEUE_OFO = ("tcp_data_queue_ofo", "tcp", "tcp/data.py", "tcp_data_queue_ofo")
    TCP_DATA_READY = ("tcp_data_ready", "tcp", "tcp/data.py", "tcp_data_ready")
    TCP_V4_ERR = ("tcp_v4_err", "tcp", "tcp/error.py", "tcp_v4_err")
    TCP_RECVMSG = ("tcp_recvmsg", "tcp", "tcp/receive.py", "tcp_recvmsg")
    # raw and ping
    RAW_SENDMSG = ("raw_sendmsg", "raw", "raw/raw.py", "RawSock.sendmsg")
    RAW_SEND_HDRINC = ("raw_send_hdrinc", "raw", "raw/raw.py", "RawSock._send_hdrinc")
    RAW_V4_INPUT = ("raw_v4_input", "raw", "raw/raw.py", "Raw.raw_local_deliver")
    RAW_RCV = ("raw_rcv", "raw", "raw/raw.py", "Raw._receive")
    RAW_ERR = ("raw_err", "raw", "raw/raw.py", "Raw.raw_icmp_error")
    RAW_RECVMSG = ("raw_recvmsg", "raw", "raw/raw.py", "RawSock.recvmsg")
    PING_V4_SENDMSG = ("ping_v4_sendmsg", "raw", "ping/ping.py", "PingSock.sendmsg")
    PING_LOOKUP = ("ping_lookup", "raw", "ping/ping.py", "Ping.ping_rcv")
    PING_ERR = ("ping_err", "raw", "ping/ping.py", "Ping.ping_err")
    PING_RECVMSG = ("ping_recvmsg", "raw", "ping/ping.py", "PingSock.recvmsg")
    # socket: net/socket.c, net/ipv4/af_inet.c
    SOCK_SENDMSG = ("sock_sendmsg", "socket", "inet/socket.py", "Socket.sendmsg")
    SECURITY_SOCKET_SENDMSG = ("security_socket_sendmsg", "socket", "inet/socket.py", "Socket.sendmsg")
    SOCK_RECVMSG = ("sock_recvmsg", "socket", "inet/socket.py", "Socket.recvmsg")
    SECURITY_SOCKET_RECVMSG = ("security_socket_recvmsg", "socket", "inet/socket.py", "Socket.recvmsg")
    SYS_CONNECT = ("__sys_connect", "socket", "inet/socket.py", "Socket.connect")
    SYS_SHUTDOWN = ("__sys_shutdown", "socket", "inet/socket.py", "Socket.shutdown")
    SYS_SETSOCKOPT = ("__sys_setsockopt", "socket", "inet/socket.py", "Socket.setsockopt")
    SOCK_RELEASE = ("__sock_release", "socket", "inet/socket.py", "Socket.close")
    INET_SENDMSG = ("inet_sendmsg", "socket", "inet/af_inet.py", "InetOps.sendmsg")
    INET_STREAM_SENDMSG = ("inet_sendmsg", "socket", "inet/af_inet.py", "InetStreamOps.sendmsg")
    INET_AUTOBIND = ("inet_autobind", "socket", "inet/af_inet.py", "InetOps.autobind")
    INET_RECVMSG = ("inet_recvmsg", "socket", "inet/af_inet.py", "InetOps.recvmsg")
    INET_STREAM_CONNECT = ("__inet_stream_connect", "socket", "inet/af_inet.py", "InetStreamOps._start_connect")
    INET_SHUTDOWN = ("inet_shutdown", "socket", "inet/af_inet.py", "InetOps.shutdown")
    INET_RELEASE = ("inet_release", "socket", "inet/af_inet.py", "InetOps.release")
    SOCK_DEF_READABLE = ("sock_def_readable", "socket", "datagram.py", "DatagramSock.enqueue")
    SKB_RECV_DATAGRAM = ("__skb_recv_datagram", "socket", "datagram.py", "DatagramSock.dequeue")
    SKB_QUEUE_PURGE = ("__skb_queue_purge", "socket", "datagram.py", "DatagramSock.purge")
    # ipv4: net/ipv4/ip_*.c
    IP_RCV = ("ip_rcv", "ipv4", "ipv4/input.py", "Ipv4Input.handle")
    IP_RCV_CORE = ("ip_rcv_core", "ipv4", "ipv4/input.py", "Ipv4Input.ip_rcv_core")
    IP_RCV_OPTIONS = ("ip_rcv_options", "ipv4", "ipv4/input.py", "Ipv4Input.ip_rcv_options")
    IP_RCV_FINISH = ("ip_rcv_finish", "ipv4", "ipv4/input.py", "Ipv4Input.ip_rcv_finish")
    IP_LOCAL_DELIVER = ("ip_local_deliver", "ipv4", "ipv4/input.py", "LocalDeliver.handle")
    IP_EXPIRE = ("ip_expire", "ipv4", "ipv4/defrag.py", "Defrag.ip_expire")
    IP_DEFRAG = ("ip_defrag", "ipv4", "ipv4/defrag.py", "Defrag._tell_waiting")
    IP_FRAG_REASM = ("ip_frag_reasm", "ipv4", "ipv4/defrag.py", "_trace_whole")
    IP_LOCAL_DELIVER_FINISH = (
        "ip_local_deliver_finish",
        "ipv4",
        "ipv4/input.py",
        "LocalDeliver.ip_local_deliver_finish",
    )
    IP_PROTOCOL_DELIVER = ("ip_protocol_deliver_rcu", "ipv4", "ipv4/protocol.py", "Protocols.ip_protocol_deliver")
    IP_FORWARD = ("ip_forward", "ipv4", "ipv4/forward.py", "IpForward.handle")
    IP_DECREASE_TTL = ("ip_decrease_ttl", "ipv4", "ipv4/forward.py", "IpForward._grow_older")
    IP_RT_SEND_REDIRECT = ("ip_rt_send_redirect", "ipv4", "ipv4/forward.py", "IpForward.ip_rt_send_redirect")
    IP_FORWARD_FINISH = ("ip_forward_finish", "ipv4", "ipv4/forward.py", "IpForward.ip_forward_finish")
    IP_QUEUE_XMIT = ("__ip_queue_xmit", "ipv4", "ipv4/output.py", "Ipv4Output.ip_queue_xmit")
    IP_BUILD_AND_SEND_PKT = ("ip_build_and_send_pkt", "ipv4", "ipv4/output.py", "Ipv4Output.ip_build_and_send_pkt")
    IP_SEND_SKB = ("ip_send_skb", "ipv4", "ipv4/output.py", "Ipv4Output.ip_send_datagram")
    IP_MC_OUTPUT = ("ip_mc_output", "ipv4", "ipv4/output.py", "McOutput.handle")
    IP_OUTPUT = ("ip_output", "ipv4", "ipv4/output.py", "Ipv4Output.handle")
    IP_FINISH_OUTPUT = ("ip_finish_output", "ipv4", "ipv4/output.py", "Ipv4Output.ip_finish_output")
    IP_FRAGMENT = ("ip_fragment", "ipv4", "ipv4/fragment.py", "_trace_fragments")
    IP_DO_FRAGMENT = ("ip_do_fragment", "ipv4", "ipv4/fragment.py", "_trace_fragments")
    IP_FINISH_OUTPUT2 = ("ip_finish_output2", "ipv4", "ipv4/output.py", "Ipv4Output.ip_finish_output2")
    IP_LOCAL_OUT = ("ip_local_out", "ipv4", "ipv4/output.py", "Ipv4Output.ip_local_out")
    # whatever floor it happens on
    KFREE_SKB = ("kfree_skb_reason", "device", "net.py", "Net.drop")

    @property
    def linux(self) -> str:
        return self.value[0]

    @property
    def floor(self) -> str:
        return self.value[1]

    @property
    def file(self) -> str:
        return self.value[2]

    @property
    def function(self) -> str:
        return self.value[3]
