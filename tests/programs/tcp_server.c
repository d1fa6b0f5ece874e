/* tcp_server: says "ready", takes one connection on TCP port 9999, prints who made it and what it says first, says the
 * same back, and closes. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(9999)}, peer;
	socklen_t size = sizeof(peer);
	char text[2048];
	ssize_t length;
	int fd, connection;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(fd, 5) < 0)
		return fail("tcp_server");
	puts("ready");
	fflush(stdout);
	connection = accept(fd, (struct sockaddr *)&peer, &size);
	if (connection < 0)
		return fail("accept");
	length = read(connection, text, sizeof(text));
	if (length < 0 || write(connection, text, length) != length)
		return fail("tcp_server");
	printf("%s %.*s\n", inet_ntoa(peer.sin_addr), (int)length, text);
	close(connection);
	close(fd);
	return 0;
}
