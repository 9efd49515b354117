package bpf

// The object and the Go types are checked in; building needs no clang. Names start lower case, so
// that generated types stay in this room.
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare" -type hook -type outcome -type note -type op -type event_kind -type subscriber_flag -type tcp_dir_flag -type flow_flag -type channel_flag -type media_flag -type address_bit -type command -type channel_spec -type event -type walk -type tcp_dir -type channel scas scas.bpf.c -- -I headers
