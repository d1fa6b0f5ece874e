/* muffin_receive: says "ready", waits for one datagram on UDP port 4747, and prints who sent it and what it says. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(4747)}, from;
	socklen_t size = sizeof(from);
	char text[2048];
	ssize_t length;
	int fd;

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0) {
		perror("muffin_receive");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	length = recvfrom(fd, text, sizeof(text), 0, (struct sockaddr *)&from, &size);
	if (length < 0) {
		perror("muffin_receive");
		return 1;
	}
	printf("%s %.*s\n", inet_ntoa(from.sin_addr), (int)length, text);
	return 0;
}
