/*
 * Stands in for ip, tc, ethtool and nstat: what it is called as and its arguments go to the daemon (Op.COMMAND), which
 * answers with what to print and with the status to end with.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { OP_COMMAND = 25 };

struct request {
	uint32_t op;
	int32_t handle;
	int64_t now;
	int64_t arg[4];
	uint64_t length;
};

struct reply {
	int64_t value;
	int32_t error;
	int32_t extra;
	int64_t now;
	uint64_t length;
};

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

int main(int count, char **arguments)
{
	const char *path = getenv("USTACK_PACKETDRILL_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct request request = { .op = OP_COMMAND, .handle = -1, .now = -1 };
	struct reply reply;
	char line[4096];

	if (!path || strlen(path) >= sizeof(address.sun_path))
		die("no socket");
	strcpy(address.sun_path, path);
	arguments[0] = strrchr(arguments[0], '/') ? strrchr(arguments[0], '/') + 1 : arguments[0];
	for (int i = 0; i < count; ++i) {
		size_t length = strlen(arguments[i]) + 1;
		if (request.length + length > sizeof(line))
			die("too many arguments");
		memcpy(line + request.length, arguments[i], length);
		request.length += length;
	}
	int daemon = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(daemon, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("no daemon");
	if (send(daemon, &request, sizeof(request), MSG_MORE) < 0 || send(daemon, line, request.length, 0) < 0)
		die("the daemon is gone");
	if (recv(daemon, &reply, sizeof(reply), MSG_WAITALL) != sizeof(reply))
		die("the daemon is gone");
	char *text = malloc(reply.length + 1);
	if (reply.length > 0 && recv(daemon, text, reply.length, MSG_WAITALL) != (ssize_t)reply.length)
		die("the daemon is gone");
	fwrite(text, 1, reply.length, stdout);
	free(text);
	return reply.value;
}
