//go:build ignore

/* A player on libmms that shows nothing: it makes the calls GStreamer's mmssrc makes and writes
 * what it gets to stdout, in records: kind (1 byte), length (4 bytes, little-endian), position in
 * the stream (8 bytes), data. Kinds: O opened (text), H ASF header, P packet, S after a seek
 * (text), E end. Commands come on stdin, one a line: tseek SECONDS, bseek BYTES, pause, resume, quit. */
#include <libmms/mmsx.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static mmsx_t *film;

static void record(char kind, const char *data, uint32_t len)
{
	int64_t pos = film ? mmsx_get_current_pos(film) : 0;

	putchar(kind);
	fwrite(&len, 4, 1, stdout);
	fwrite(&pos, 8, 1, stdout);
	fwrite(data, 1, len, stdout);
	fflush(stdout);
}

static void say(char kind, const char *text)
{
	record(kind, text, strlen(text));
}

/* command obeys one line; returns 0 to quit. */
static int command(char *line, int *paused)
{
	char text[64];

	if (!strncmp(line, "tseek ", 6)) {
		snprintf(text, sizeof text, "%d", mmsx_time_seek(NULL, film, atof(line + 6)));
		say('S', text);
	} else if (!strncmp(line, "bseek ", 6)) {
		snprintf(text, sizeof text, "%lld", (long long)mmsx_seek(NULL, film, atoll(line + 6), SEEK_SET));
		say('S', text);
	} else if (!strncmp(line, "pause", 5)) {
		*paused = 1;
	} else if (!strncmp(line, "resume", 6)) {
		*paused = 0;
	} else if (!strncmp(line, "quit", 4)) {
		return 0;
	}
	return 1;
}

/* commands obeys what came; waits for something while the film is held. */
static int commands(int *paused)
{
	static char line[256];
	static size_t have;
	struct pollfd in = {0, POLLIN, 0};

	while (poll(&in, 1, *paused ? -1 : 0) > 0) {
		if (read(0, line + have, 1) != 1)
			return 0;
		if (line[have] != '\n' && have < sizeof line - 2) {
			have++;
			continue;
		}
		line[have] = 0;
		have = 0;
		if (!command(line, paused))
			return 0;
	}
	return 1;
}

int main(int argc, char **argv)
{
	static char buf[65536], text[256];
	int paused = 0, n, len;

	if (argc != 2)
		return 2;
	film = mmsx_connect(NULL, NULL, argv[1], (int)1e9);
	if (!film) {
		fprintf(stderr, "connect failed\n");
		return 1;
	}
	snprintf(text, sizeof text, "%f %u %u %d", mmsx_get_time_length(film), mmsx_get_length(film),
		 (unsigned)mmsx_get_asf_packet_len(film), mmsx_get_seekable(film));
	say('O', text);
	len = mmsx_get_asf_header_len(film);
	n = mmsx_peek_header(film, buf, sizeof buf);
	record('H', buf, n);
	if (mmsx_seek(NULL, film, 0, SEEK_CUR) < len)
		for (n = 0; n < len;) { /* the header again, as the stream begins with it */
			int r = mmsx_read(NULL, film, buf + n, len - n);
			if (r <= 0)
				return 1;
			n += r;
		}
	len = mmsx_get_asf_packet_len(film);
	if (len <= 0 || len > (int)sizeof buf)
		return 1;
	while (commands(&paused)) {
		n = mmsx_read(NULL, film, buf, len);
		if (n <= 0) {
			say('E', "");
			break;
		}
		record('P', buf, n);
	}
	mmsx_close(film);
	return 0;
}
