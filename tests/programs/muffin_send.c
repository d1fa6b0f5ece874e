/* muffin_send HOST TEXT: looks HOST up and sends TEXT to its UDP port 4747, as programs have done it for decades:
 * getaddrinfo(), socket(), sendto(). It waits for nothing. */

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM}, *found;
	int status, fd;

	if (argc != 3) {
		fprintf(stderr, "usage: %s HOST TEXT\n", argv[0]);
		return 2;
	}
	status = getaddrinfo(argv[1], "4747", &hints, &found);
	if (status != 0) {
		fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(status));
		return 1;
	}
	fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
	if (fd < 0 || sendto(fd, argv[2], strlen(argv[2]), 0, found->ai_addr, found->ai_addrlen) < 0) {
		perror("muffin_send");
		return 1;
	}
	freeaddrinfo(found);
	close(fd);
	return 0;
}
