/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the kernel half and Go both know: every struct, enum and knob. Go's side of it is generated
 * (gen.go). Widest member first, padding spelled out, no packing. Addresses are 16 bytes as four
 * words in network order, IPv4 mapped; __be16 is network order, all else host order; times are
 * nanoseconds of CLOCK_MONOTONIC, 0 never. */
#ifndef SCAS_H
#define SCAS_H

#include "kernel.h"

#define SIZE_IS(type, n) _Static_assert(sizeof(type) == (n), "size of " #type)

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

enum hook { HOOK_LAN_IN, HOOK_LAN_OUT, HOOK_WAN_IN, HOOKS };
enum dir { TO_SERVER, TO_TERMINAL };
enum service { SERVICE_NONE, SERVICE_RTSP, SERVICE_MMS, SERVICE_MMSH };
enum event_kind { EVENT_NONE, EVENT_TCP, EVENT_RTP, EVENT_RTCP, EVENT_FRAME, EVENT_TAIL };

/* How a packet left a program: exactly one per packet and hook. Go's name is the rest of the word
 * in lower case after the hook's. */
enum outcome {
	OUTCOME_NOT_IP,            /* neither IPv4 nor IPv6, or tags too deep */
	OUTCOME_MALFORMED,         /* headers cut short or impossible */
	OUTCOME_STRANGER,          /* address not subscribed */
	OUTCOME_OWN,               /* sent by a socket of ours */
	OUTCOME_LATER_FRAGMENT,    /* not the first fragment */
	OUTCOME_UNKNOWN_EXTENSION, /* IPv6 extension headers too many or unknown */
	OUTCOME_OTHER_PROTOCOL,    /* neither TCP nor UDP */
	OUTCOME_OTHER_TCP,         /* no service port */
	OUTCOME_OTHER_UDP,         /* no known media flow */
	OUTCOME_TCP,               /* watched */
	OUTCOME_TCP_IGNORED,       /* set to be ignored */
	OUTCOME_TCP_UNTRACKED,     /* no room for its record */
	OUTCOME_RTP,               /* media of a known flow */
	OUTCOME_RTCP,              /* of a known flow */
	OUTCOME_MEDIA_OTHER,       /* known flow, but neither RTP of its payload types nor RTCP */
	OUTCOME_CUT,               /* dropped: the flow is cut */
	OUTCOME_STEERED,           /* handed to a socket of ours */
	OUTCOME_STEER_GONE,        /* was steered, its socket is gone: goes on */
	OUTCOME_STEER_STRAY,       /* from the server on a flow that is steered: goes on */
	OUTCOME_NO_LEGS,           /* WAN: no upstream leg exists */
	OUTCOME_NOT_LEG,           /* WAN: not of an upstream leg */
	OUTCOME_LEG,               /* WAN: handed to an upstream leg */
	OUTCOME_LEG_GONE,          /* WAN: of an upstream leg without a socket: goes on */
	OUTCOMES,
};

/* What happened besides. */
enum note {
	NOTE_RING_FULL,
	NOTE_EVENT_SHARE, /* no record for user space: its terminal has had its bytes of this second */
	NOTE_EVENT_TCP,
	NOTE_EVENT_RTP,
	NOTE_EVENT_RTCP,
	NOTE_EVENT_FRAME,
	NOTE_EVENT_TAIL,
	NOTE_FLOW_NEW,          /* from its SYN */
	NOTE_FLOW_JOINED,       /* in its middle */
	NOTE_FLOW_FULL,         /* no room for a flow record */
	NOTE_FLOW_SHARE,        /* its terminal has as many as it may */
	NOTE_COPY_BYTES_LIMIT,  /* 1 MiB after one request */
	NOTE_COPY_TIME_LIMIT,   /* 10 s after one request */
	NOTE_COPY_RATE_LIMIT,   /* node-wide rate of copied bytes */
	NOTE_UPLOAD_LIMIT,      /* terminal's own bytes, per flow and second */
	NOTE_COPY_FAILED,       /* packet bytes could not be read */
	NOTE_MMSH_NO_PLAYER,    /* HTTP that is not a player's */
	NOTE_WALK_GAP,          /* out of step: bytes missing */
	NOTE_WALK_TEXT,         /* out of step: no '$' where one was due */
	NOTE_WALK_FOUND,        /* in step again */
	NOTE_WALK_SCAN,         /* segment searched */
	NOTE_WALK_BOUND,        /* more frames in a segment than are read */
	NOTE_WALK_CHANNEL,      /* frame of a channel nobody announced */
	NOTE_RTCP_LIMIT,        /* RTCP events per flow and second */
	NOTE_MEDIA_LEARNED,     /* server port learned */
	NOTE_MEDIA_FULL,        /* no room for a learned flow */
	NOTE_MEDIA_JUMP,        /* rtptime jumped */
	NOTE_MEDIA_SSRC,        /* SSRC changed */
	NOTE_MEDIA_SEQ,         /* sequence number far off, packet set aside */
	NOTE_MEDIA_UNREACHABLE, /* terminal says by ICMP that it takes none */
	NOTE_STEER_NEW,         /* connection steered from its SYN */
	NOTE_STEER_RECOVERED,   /* record was lost, socket found again */
	NOTE_STEER_TAGGED,      /* VLAN tag: the device of the VLAN has to be named */
	NOTE_STEER_LOCAL,       /* for this router itself */
	NOTE_STEER_NO_LISTENER,
	NOTE_STEER_ASSIGN_FAILED,
	NOTE_STEER_UNANSWERED, /* SYN passed on: ours came to nothing, a packet filter drops them */
	NOTE_RECORD_BUSY,      /* a record held by another processor for too long: packet not accounted */
	NOTES,
};

/* What a command does; the answer is 0 or an errno. */
enum op { OP_STOP_COPY, OP_IGNORE, OP_CHANNELS, OP_SAMPLE, OP_SAMPLE_HIT, OP_RESET, OP_SHARE, OP_COPY };

enum subscriber_flag {
	SUB_ON = 1,    /* admitted; without it the entry only serves a cut */
	SUB_ARMED = 2, /* steer its next SYN */
	SUB_MEDIA = 4, /* it has media flows */
	SUB_LEARN = 8, /* one of them with unknown server port */
	SUB_CUT = 16,  /* one of its flows is cut */
};

enum tcp_dir_flag {
	DIR_SEQ = 1,
	DIR_ACK = 2,
	DIR_SYN = 4,
	DIR_FIN = 8,
	DIR_RST = 16,
	DIR_WSCALE = 32,
	DIR_SACK = 64,
	DIR_TS = 128,
	DIR_MPTCP = 256,
	DIR_TSVAL = 512,
};

enum flow_flag {
	FLOW_SYN = 1, /* followed from its SYN */
	FLOW_STEERED = 2,
	FLOW_ESTABLISHED = 4, /* steered: its own socket was seen */
	FLOW_IGNORED = 8,
	FLOW_LOSSY = 16,
	FLOW_COPY = 32,    /* copy server -> terminal */
	FLOW_WALK = 64,    /* its channels are known */
	FLOW_SAMPLE = 128, /* tail samples wanted */
	FLOW_PLAYER = 256, /* mmsh: signature seen */
};

enum channel_flag {
	CHANNEL_MEDIA = 1,  /* a frame was seen */
	CHANNEL_FIRST = 2,  /* a frame was seen since the reset */
	CHANNEL_SSRC = 4,   /* ssrc is known */
	CHANNEL_SAMPLE = 8, /* next frame goes up */
	CHANNEL_NEWS = 16,  /* one not long after the last one does */
};

enum media_flag {
	MEDIA_SEEN = 1,
	MEDIA_FIRST = 2,
	MEDIA_SAMPLE = 4, /* next packet goes up */
	MEDIA_RTCP = 8,   /* flow of RTCP only */
	MEDIA_LEARN = 16, /* server port unknown: a pattern, not a flow */
	MEDIA_LOSSY = 32,
	MEDIA_NEWS = 64, /* one not long after the last sample goes up */
};

enum address_bit {
	ADDRESS_ENTRY = 1, /* some terminal with such an address has an entry in subscribers */
	ADDRESS_MEDIA = 2, /* one of them has media flows */
};

enum { ADDRESS_SLOTS = 1 << 20, ADDRESSES_PER_WORD = 32 };

enum { MAX_CHANNELS = 8, SLOT_RTCP = 128, MAX_COPY = 4096, MAX_HEAD = 128, MAX_RTCP = 512, MAX_TAIL = 2048 };

struct addr_key {
	__be32 addr[4];
};
SIZE_IS(struct addr_key, 16);

struct flow_key {
	__be32 terminal[4];
	__be32 server[4];
	__be16 terminal_port;
	__be16 server_port;
	__u8 proto;
	__u8 pad[3];
};
SIZE_IS(struct flow_key, 40);

struct subscriber {
	__u32 flags;
};
SIZE_IS(struct subscriber, 4);

/* What a terminal has of what all share. */
struct share {
	__u64 since; /* the second under way began then */
	__u64 used;  /* bytes of records sent up in it */
	__u32 flows; /* its records of TCP connections; may be below zero for a moment */
	__u32 pad;
};
SIZE_IS(struct share, 24);

struct cut {
	__u64 until;
	__u32 dirs; /* 1 << enum dir */
	__u32 pad;
};
SIZE_IS(struct cut, 16);

/* One direction of a TCP connection: what its sender sent. Times are good to a tick of the kernel
 * (tick_now). */
struct tcp_dir {
	__u64 tsval_at; /* when tsval came first, exactly */
	__u64 last;
	__u64 packets;
	__u64 bytes;
	__u32 highest; /* after the newest byte, SYN, FIN */
	__u32 ack;
	__u32 tsval;
	__u32 isn;
	__u16 window; /* raw */
	__u16 mss;
	__u16 flags;
	__u8 wscale;
	__u8 pad;
};
SIZE_IS(struct tcp_dir, 56);

struct channel {
	__u64 first;
	__u64 last;
	__u64 sampled;
	__u64 packets;
	__u64 bytes;
	__u32 ssrc;
	__u32 clock_rate;
	__u32 rtptime;
	__u32 max_rtptime;
	__u32 first_rtptime;
	__u32 frame_seq; /* TCP sequence number of the newest '$' */
	__u32 first_frame_seq;
	__u16 seq;
	__u16 first_seq;
	__u16 frame_len;
	__u8 number;
	__u8 pt;
	__u8 flags;
	__u8 pad[3];
};
SIZE_IS(struct channel, 80);

/* The walk over the `$` headers of one connection, server -> terminal. */
struct walk {
	struct channel ch[MAX_CHANNELS];
	__u64 scan_since;
	__u64 rtcp_since;
	__u64 pend_at;  /* when pend arrived, 0 none */
	__u64 numbers;  /* byte i: channel number of ch[i] */
	__u64 used;     /* byte i: 0x80 when ch[i] is in use */
	__u32 next;     /* TCP sequence number of the next '$' */
	__u32 pend_seq; /* of the '$' of the frame in pend */
	__u32 gaps;
	__u8 pend[16]; /* header found, not yet proved by the one after it */
	__u8 head[32]; /* header under way: bytes of earlier segments, then this one's */
	__u8 head_len;
	__u8 count; /* channels in use */
	__u8 step;  /* 1: next is valid */
	__u8 doubt; /* headers still to prove */
	__u8 scan_left;
	__u8 rtcp_left;
	__u8 pad[6];
};
SIZE_IS(struct walk, 752);

/* One TCP connection. With its key and the kernel's own header of an entry it fills 1 KiB, the
 * size the kernel gives out. */
struct tcp_flow {
	__u64 who;           /* as in struct media */
	struct tcp_dir up;   /* terminal -> server */
	struct tcp_dir down; /* server -> terminal */
	__u64 copy_until;
	__u64 upload_since;
	__u64 sample_next;
	__u32 copy_left;
	__u32 upload_left;
	__u32 requests;
	__u32 flags;
	__u32 mmsh_seen; /* payload bytes searched for a player's signature */
	__u32 turn;      /* see record_lock */
	__u8 service;
	__u8 sample_left;
	__u8 pad[6];
	struct walk walk;
};
SIZE_IS(struct tcp_flow, 928);

/* One UDP flow of RTP or RTCP. */
struct media {
	__u64 who; /* see terminal_flags; first, for the verifier's sake: it is looked for before it is there */
	__u64 first;
	__u64 last;
	__u64 sampled;
	__u64 packets;
	__u64 bytes;
	__u64 ext;      /* highest sequence number, extended */
	__u64 base;     /* extended sequence number counting began with */
	__u64 received; /* since base */
	__s64 lost;     /* before base */
	__u64 pt_mask[2];
	__u64 rtcp_up;
	__u64 rtcp_down;
	__u64 rtcp_since;
	__u64 ticks;       /* clock ticks in a nanosecond, times 2^32 */
	__u64 unreachable; /* when the terminal said last that media do not reach it */
	__u32 ssrc;
	__u32 clock_rate;
	__u32 rtptime;
	__u32 max_rtptime;
	__u32 first_rtptime;
	__u32 arrival; /* of the newest packet, clock ticks */
	__u32 transit;
	__u32 jitter; /* times 16 */
	__u32 ssrc_changes;
	__u32 bad_seq; /* next one expected after a jump, >65535 none */
	__u32 flags;
	__u32 learned; /* pattern: the port found, network order */
	__u32 turn;    /* see record_lock */
	__u16 first_seq;
	__u8 pt;
	__u8 rtcp_left;
};
SIZE_IS(struct media, 192);

/* Record of the ring buffer; size bytes of payload follow. */
struct event {
	__u64 at;
	struct flow_key flow;
	__u32 seq;
	__u32 ack;
	__u32 requests;
	__u32 length;
	__u16 size;
	__u8 kind;
	__u8 dir;
	__u8 tcp_flags;
	__u8 channel;
	__u8 service;
	__u8 pad;
	__u8 payload[MAX_COPY];
};
SIZE_IS(struct event, 72 + MAX_COPY);

struct channel_spec {
	__u32 ssrc;
	__u32 clock_rate;
	__u8 number;
	__u8 pt;
	__u8 pad[2];
};
SIZE_IS(struct channel_spec, 12);

/* What Go asks of the command program, after 14 bytes of Ethernet header. */
struct command {
	struct flow_key flow;
	__u32 op;
	__u32 arg;
	struct channel_spec ch[MAX_CHANNELS];
};
SIZE_IS(struct command, 144);

#pragma clang diagnostic pop

/* Names the types that no map holds, so that the object describes them to Go. */
const struct go_types {
	enum hook hook;
	enum outcome outcome;
	enum note note;
	enum op op;
	enum event_kind event_kind;
	enum subscriber_flag subscriber_flag;
	enum tcp_dir_flag tcp_dir_flag;
	enum flow_flag flow_flag;
	enum channel_flag channel_flag;
	enum media_flag media_flag;
	enum address_bit address_bit;
	struct command command;
} *go_types __attribute__((unused));

/* Knobs, set before load. */
volatile const __u32 link_header = ETH_HLEN; /* bytes before the network header: 14, or 0 on devices without one */
volatile const __be32 ipv6_mask[4] = {~0U, ~0U, 0, 0};
volatile const __u32 mark_bit = 0x20000000;
volatile const __u64 sample_ns = 200000000;
volatile const __u32 steer_always = 0;
volatile const __u32 copy_rate = 64 << 20;  /* copied bytes per second, node-wide */
volatile const __u32 event_share = 4 << 20; /* bytes of records sent up for one terminal in a second */
volatile const __u32 flow_share = 2048;     /* records of TCP connections of one terminal */
volatile const __u8 service_ports[16384];   /* two bits a port: enum service */

/* State Go writes while running. */
__u32 legs_active;             /* entries in legs */
__u32 subscribers_version = 1; /* counted up after each change of subscribers, never 0 */

#endif
