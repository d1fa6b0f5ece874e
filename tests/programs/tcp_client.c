/* tcp_client ADDRESS TEXT: connects to TCP port 9999 there, writes TEXT, prints what comes back until the server has
 * ended it, and closes. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(9999)};
	char text[2048];
	ssize_t length;
	int fd;

	if (argc != 3 || inet_pton(AF_INET, argv[1], &there.sin_addr) != 1) {
		fprintf(stderr, "usage: %s ADDRESS TEXT\n", argv[0]);
		return 2;
	}
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0)
		return fail("socket");
	if (connect(fd, (struct sockaddr *)&there, sizeof(there)) < 0)
		return fail("connect");
	if (write(fd, argv[2], strlen(argv[2])) < 0)
		return fail("write");
	while ((length = read(fd, text, sizeof(text))) > 0)
		fwrite(text, 1, length, stdout);
	if (length < 0)
		return fail("read");
	putchar('\n');
	close(fd);
	return 0;
}
