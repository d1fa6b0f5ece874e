/*
 * packetdrill's way to a stack in a daemon: a shared object for --so_filename, preloaded as well.
 *
 * Every system call of a script becomes one request on a Unix stream socket, one socket a thread, and waits for its
 * reply (protocol.py has the layout). Time is virtual and lives here: reading the clock costs a microsecond, sleeping
 * takes no time, and each request says what time it is. Sockets are shown to packetdrill as real descriptors, open on
 * /dev/null, because it closes what is left over by itself.
 *
 * Preloaded, it takes over three more functions of libc that packetdrill calls past its interface: getsockopt (the
 * assertions about struct tcp_info), sendfile, and system, around which the daemon keeps the private settings in step.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* What packetdrill wants filled in: its struct packetdrill_interface, slot by slot. */
struct packetdrill_interface {
	void *userdata;
	void (*free)(void *);
	int (*socket)(void *, int, int, int);
	int (*bind)(void *, int, const struct sockaddr *, socklen_t);
	int (*listen)(void *, int, int);
	int (*accept)(void *, int, struct sockaddr *, socklen_t *);
	int (*connect)(void *, int, const struct sockaddr *, socklen_t);
	ssize_t (*read)(void *, int, void *, size_t);
	ssize_t (*readv)(void *, int, const struct iovec *, int);
	ssize_t (*recv)(void *, int, void *, size_t, int);
	ssize_t (*recvfrom)(void *, int, void *, size_t, int, struct sockaddr *, socklen_t *);
	ssize_t (*recvmsg)(void *, int, struct msghdr *, int);
	ssize_t (*write)(void *, int, const void *, size_t);
	ssize_t (*writev)(void *, int, const struct iovec *, int);
	ssize_t (*send)(void *, int, const void *, size_t, int);
	ssize_t (*sendto)(void *, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	ssize_t (*sendmsg)(void *, int, const struct msghdr *, int);
	int (*fcntl)(void *, int, int, ...);
	int (*ioctl)(void *, int, unsigned long, ...);
	int (*close)(void *, int);
	int (*shutdown)(void *, int, int);
	int (*getsockopt)(void *, int, int, int, void *, socklen_t *);
	int (*setsockopt)(void *, int, int, int, const void *, socklen_t);
	int (*poll)(void *, struct pollfd *, nfds_t, int);
	int (*netdev_send)(void *, const void *, size_t);
	int (*netdev_receive)(void *, void *, size_t *, long long *);
	int (*usleep)(void *, useconds_t);
	int (*gettimeofday)(void *, struct timeval *, struct timezone *);
	int (*epoll_create)(void *, int);
	int (*epoll_ctl)(void *, int, int, int, struct epoll_event *);
	int (*epoll_wait)(void *, int, struct epoll_event *, int, int);
	int (*pipe)(void *, int[2]);
	int (*splice)(void *, int, loff_t *, int, loff_t *, size_t, unsigned int);
};

enum operation {
	OP_HELLO = 1, OP_SOCKET, OP_BIND, OP_LISTEN, OP_ACCEPT, OP_CONNECT, OP_RECVMSG, OP_SENDMSG, OP_FCNTL, OP_IOCTL,
	OP_CLOSE, OP_SHUTDOWN, OP_GETSOCKOPT, OP_SETSOCKOPT, OP_POLL, OP_NETDEV_SEND, OP_NETDEV_RECEIVE, OP_SLEEP,
	OP_EPOLL_CREATE, OP_EPOLL_CTL, OP_EPOLL_WAIT, OP_PIPE, OP_SPLICE, OP_SYSTEM,
};

struct request {
	uint32_t op;
	int32_t handle;
	int64_t now;		/* microseconds */
	int64_t arg[4];
	uint64_t length;	/* of the payload behind it */
};

struct reply {
	int64_t value;
	int32_t error;
	int32_t extra;
	int64_t now;		/* when the call was over */
	uint64_t length;
};

/* What a call takes along and brings back beside its numbers. */
struct payload {
	const struct iovec *in;
	int in_count;
	char *out;		/* malloc'ed; the caller frees it */
	size_t out_length;
	int extra;
};

#define MAX_FDS 4096
#define NO_HANDLE (-1)

static char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
static int handles[MAX_FDS];	/* handle + 1 of each descriptor we gave out */
static pthread_t main_thread;
static pthread_mutex_t clock_lock = PTHREAD_MUTEX_INITIALIZER;
static long long clock_usecs = 1700000000000000LL;
static __thread int connection = -1;
static __thread long long over_at;	/* when this thread's blocking call was over, until it has looked */

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

/* -- the clock */

static long long clock_now(void)
{
	pthread_mutex_lock(&clock_lock);
	long long now = clock_usecs;
	pthread_mutex_unlock(&clock_lock);
	return now;
}

static long long clock_advance(long long usecs)
{
	pthread_mutex_lock(&clock_lock);
	long long now = clock_usecs += usecs;
	pthread_mutex_unlock(&clock_lock);
	return now;
}

static void clock_not_before(long long usecs)
{
	pthread_mutex_lock(&clock_lock);
	if (clock_usecs < usecs)
		clock_usecs = usecs;
	pthread_mutex_unlock(&clock_lock);
}

/* -- requests and replies */

static void send_all(struct iovec *vector, int count)
{
	while (count > 0) {
		struct msghdr message = { .msg_iov = vector, .msg_iovlen = count < 1024 ? count : 1024 };
		ssize_t sent = sendmsg(connection, &message, MSG_NOSIGNAL);
		if (sent < 0)
			die("plugin: the daemon is gone");
		for (; count > 0 && (size_t)sent >= vector->iov_len; ++vector, --count)
			sent -= vector->iov_len;
		if (count > 0) {
			vector->iov_base = (char *)vector->iov_base + sent;
			vector->iov_len -= sent;
		}
	}
}

static void receive_all(void *buffer, size_t length)
{
	if (length > 0 && recv(connection, buffer, length, MSG_WAITALL) != (ssize_t)length)
		die("plugin: the daemon is gone");
}

static int64_t exchange(struct request *request, struct payload *payload)
{
	struct reply reply;
	int count = payload ? payload->in_count : 0;
	struct iovec vector[count + 1];

	vector[0] = (struct iovec){ request, sizeof(*request) };
	for (int i = 0; i < count; ++i) {
		vector[i + 1] = payload->in[i];
		request->length += payload->in[i].iov_len;
	}
	request->now = clock_now();
	send_all(vector, count + 1);
	receive_all(&reply, sizeof(reply));
	char *out = malloc(reply.length + 1);
	receive_all(out, reply.length);
	if (payload) {
		payload->out = out;
		payload->out_length = reply.length;
		payload->extra = reply.extra;
	} else {
		free(out);
	}
	if (!pthread_equal(pthread_self(), main_thread))
		over_at = reply.now;
	else
		clock_not_before(reply.now);
	if (reply.value < 0)
		errno = reply.error;
	return reply.value;
}

/* Without a word more: packetdrill goes on as soon as a thread sleeps, which must not be before it has asked. */
static void connect_to_daemon(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, socket_path);
	connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(connection, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("plugin: no daemon");
}

static int64_t call(enum operation op, int handle, int64_t a, int64_t b, int64_t c, int64_t d, struct payload *payload)
{
	struct request request = { .op = op, .handle = handle, .arg = { a, b, c, d } };

	if (connection < 0)
		connect_to_daemon();
	return exchange(&request, payload);
}

/* A call with bytes that go along, and none that come back. */
static int64_t call_with(enum operation op, int handle, int64_t a, int64_t b, const void *data, size_t length)
{
	struct iovec in = { (void *)data, length };
	struct payload payload = { .in = &in, .in_count = 1 };
	int64_t result = call(op, handle, a, b, 0, 0, &payload);

	free(payload.out);
	return result;
}

/* -- descriptors */

static int handle_of(int fd)
{
	return fd >= 0 && fd < MAX_FDS ? handles[fd] - 1 : NO_HANDLE;
}

static int descriptor_for(int64_t handle)
{
	if (handle < 0)
		return -1;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || fd >= MAX_FDS)
		die("plugin: no descriptor");
	handles[fd] = handle + 1;
	return fd;
}

/* -- the calls */

static void pd_free(void *userdata)
{
}

static int pd_socket(void *userdata, int domain, int type, int protocol)
{
	return descriptor_for(call(OP_SOCKET, NO_HANDLE, domain, type, protocol, 0, NULL));
}

static int pd_bind(void *userdata, int fd, const struct sockaddr *address, socklen_t length)
{
	return call_with(OP_BIND, handle_of(fd), 0, 0, address, length);
}

static int pd_listen(void *userdata, int fd, int backlog)
{
	return call(OP_LISTEN, handle_of(fd), backlog, 0, 0, 0, NULL);
}

static int pd_accept(void *userdata, int fd, struct sockaddr *address, socklen_t *length)
{
	struct payload payload = { 0 };
	int64_t handle = call(OP_ACCEPT, handle_of(fd), 0, 0, 0, 0, &payload);

	if (handle >= 0 && address && length) {
		memcpy(address, payload.out, payload.out_length < *length ? payload.out_length : *length);
		*length = payload.out_length;
	}
	free(payload.out);
	return descriptor_for(handle);
}

static int pd_connect(void *userdata, int fd, const struct sockaddr *address, socklen_t length)
{
	return call_with(OP_CONNECT, handle_of(fd), 0, 0, address, length);
}

static size_t total(const struct iovec *vector, size_t count)
{
	size_t sum = 0;

	for (size_t i = 0; i < count; ++i)
		sum += vector[i].iov_len;
	return sum;
}

static int unreadable(const struct iovec *vector, size_t count)
{
	for (size_t i = 0; i < count; ++i)
		if (!vector[i].iov_base && vector[i].iov_len > 0)
			return 1;
	return 0;
}

static void scatter(struct msghdr *message, const char *data, size_t length)
{
	for (size_t i = 0; i < message->msg_iovlen && length > 0; ++i) {
		size_t part = message->msg_iov[i].iov_len < length ? message->msg_iov[i].iov_len : length;
		if (message->msg_iov[i].iov_base)
			memcpy(message->msg_iov[i].iov_base, data, part);
		data += part;
		length -= part;
	}
}

static ssize_t pd_recvmsg(void *userdata, int fd, struct msghdr *message, int flags)
{
	struct payload payload = { 0 };
	size_t room = total(message->msg_iov, message->msg_iovlen);
	int null = unreadable(message->msg_iov, message->msg_iovlen);
	uint32_t lengths[2];	/* of the address, of the control messages */
	int64_t result = call(OP_RECVMSG, handle_of(fd), room, flags, null, message->msg_controllen, &payload);

	if (result >= 0) {
		memcpy(lengths, payload.out, sizeof(lengths));
		char *address = payload.out + sizeof(lengths), *control = address + lengths[0];
		char *data = control + lengths[1];
		if (message->msg_name)
			memcpy(message->msg_name, address,
			       lengths[0] < message->msg_namelen ? lengths[0] : message->msg_namelen);
		message->msg_namelen = lengths[0];
		if (message->msg_control)
			memcpy(message->msg_control, control, lengths[1]);
		message->msg_controllen = lengths[1];
		message->msg_flags = payload.extra;
		scatter(message, data, payload.out + payload.out_length - data);
	}
	free(payload.out);
	return result;
}

static ssize_t pd_recvfrom(void *userdata, int fd, void *buffer, size_t count, int flags, struct sockaddr *address,
			   socklen_t *length)
{
	struct iovec vector = { buffer, count };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_name = address };

	message.msg_namelen = length ? *length : 0;
	ssize_t result = pd_recvmsg(userdata, fd, &message, flags);
	if (length)
		*length = message.msg_namelen;
	return result;
}

static ssize_t pd_recv(void *userdata, int fd, void *buffer, size_t count, int flags)
{
	return pd_recvfrom(userdata, fd, buffer, count, flags, NULL, NULL);
}

static ssize_t pd_readv(void *userdata, int fd, const struct iovec *vector, int count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)vector, .msg_iovlen = count };

	return handle_of(fd) < 0 ? readv(fd, vector, count) : pd_recvmsg(userdata, fd, &message, 0);
}

static ssize_t pd_read(void *userdata, int fd, void *buffer, size_t count)
{
	return handle_of(fd) < 0 ? read(fd, buffer, count) : pd_recv(userdata, fd, buffer, count, 0);
}

static ssize_t pd_sendmsg(void *userdata, int fd, const struct msghdr *message, int flags)
{
	size_t size = message->msg_iovlen + 2;
	struct iovec *in = calloc(size, sizeof(*in));
	struct payload payload = { .in = in, .in_count = 1 };
	int null = unreadable(message->msg_iov, message->msg_iovlen);
	size_t name = message->msg_name ? message->msg_namelen : 0;

	in[0] = (struct iovec){ message->msg_name, name };
	if (!null) {
		in[1] = (struct iovec){ message->msg_control, message->msg_control ? message->msg_controllen : 0 };
		memcpy(in + 2, message->msg_iov, message->msg_iovlen * sizeof(*in));
		payload.in_count = size;
	}
	int64_t result = call(OP_SENDMSG, handle_of(fd), flags, name, null, null ? 0 : in[1].iov_len, &payload);
	free(payload.out);
	free(in);
	return result;
}

static ssize_t pd_sendto(void *userdata, int fd, const void *data, size_t count, int flags,
			 const struct sockaddr *address, socklen_t length)
{
	struct iovec vector = { (void *)data, count };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_name = (void *)address };

	message.msg_namelen = length;
	return pd_sendmsg(userdata, fd, &message, flags);
}

static ssize_t pd_send(void *userdata, int fd, const void *data, size_t count, int flags)
{
	return pd_sendto(userdata, fd, data, count, flags, NULL, 0);
}

static ssize_t pd_write(void *userdata, int fd, const void *data, size_t count)
{
	return handle_of(fd) < 0 ? write(fd, data, count) : pd_send(userdata, fd, data, count, 0);
}

static ssize_t pd_writev(void *userdata, int fd, const struct iovec *vector, int count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)vector, .msg_iovlen = count };

	return handle_of(fd) < 0 ? writev(fd, vector, count) : pd_sendmsg(userdata, fd, &message, 0);
}

static int pd_fcntl(void *userdata, int fd, int command, ...)
{
	va_list arguments;

	va_start(arguments, command);
	long argument = command == F_SETFL ? va_arg(arguments, long) : 0;
	va_end(arguments);
	return call(OP_FCNTL, handle_of(fd), command, argument, 0, 0, NULL);
}

static int pd_ioctl(void *userdata, int fd, unsigned long code, ...)
{
	struct payload payload = { 0 };
	va_list arguments;

	va_start(arguments, code);
	int *answer = va_arg(arguments, int *);
	va_end(arguments);
	int result = call(OP_IOCTL, handle_of(fd), code, 0, 0, 0, &payload);
	if (result >= 0 && payload.out_length == sizeof(*answer))
		memcpy(answer, payload.out, sizeof(*answer));
	free(payload.out);
	return result;
}

static int pd_close(void *userdata, int fd)
{
	int handle = handle_of(fd), result = 0;

	if (handle >= 0) {
		result = call(OP_CLOSE, handle, 0, 0, 0, 0, NULL);
		handles[fd] = 0;
	}
	close(fd);
	return result;
}

static int pd_shutdown(void *userdata, int fd, int how)
{
	return call(OP_SHUTDOWN, handle_of(fd), how, 0, 0, 0, NULL);
}

static int pd_getsockopt(void *userdata, int fd, int level, int name, void *value, socklen_t *length)
{
	struct payload payload = { 0 };
	int result = call(OP_GETSOCKOPT, handle_of(fd), level, name, *length, 0, &payload);

	if (result >= 0) {
		memcpy(value, payload.out, payload.out_length);
		*length = payload.out_length;
	}
	free(payload.out);
	return result;
}

static int pd_setsockopt(void *userdata, int fd, int level, int name, const void *value, socklen_t length)
{
	return call_with(OP_SETSOCKOPT, handle_of(fd), level, name, value, length);
}

static int pd_poll(void *userdata, struct pollfd *fds, nfds_t count, int timeout)
{
	struct pollfd asked[count];
	struct iovec in = { asked, sizeof(asked) };
	struct payload payload = { .in = &in, .in_count = 1 };

	memcpy(asked, fds, sizeof(asked));
	for (nfds_t i = 0; i < count; ++i)
		asked[i].fd = handle_of(fds[i].fd);
	int result = call(OP_POLL, NO_HANDLE, timeout, 0, 0, 0, &payload);
	for (nfds_t i = 0; result >= 0 && i < count; ++i)
		memcpy(&fds[i].revents, payload.out + i * sizeof(fds[i].revents), sizeof(fds[i].revents));
	free(payload.out);
	return result;
}

static int pd_epoll_create(void *userdata, int size)
{
	return descriptor_for(call(OP_EPOLL_CREATE, NO_HANDLE, size, 0, 0, 0, NULL));
}

static int pd_epoll_ctl(void *userdata, int epfd, int op, int fd, struct epoll_event *event)
{
	struct epoll_event asked = event ? *event : (struct epoll_event){ 0 };

	return call(OP_EPOLL_CTL, handle_of(epfd), op, handle_of(fd), asked.events, asked.data.u64, NULL);
}

static int pd_epoll_wait(void *userdata, int epfd, struct epoll_event *events, int maximum, int timeout)
{
	struct payload payload = { 0 };
	int result = call(OP_EPOLL_WAIT, handle_of(epfd), maximum, timeout, 0, 0, &payload);

	for (int i = 0; i < result; ++i) {
		memcpy(&events[i].events, payload.out + i * 12, 4);
		memcpy(&events[i].data.u64, payload.out + i * 12 + 4, 8);
	}
	free(payload.out);
	return result;
}

static int pd_pipe(void *userdata, int fds[2])
{
	int64_t handle = call(OP_PIPE, NO_HANDLE, 0, 0, 0, 0, NULL);

	fds[0] = descriptor_for(handle);
	fds[1] = descriptor_for(handle + 1);
	return handle < 0 ? -1 : 0;
}

static int pd_splice(void *userdata, int in, loff_t *in_offset, int out, loff_t *out_offset, size_t length,
			 unsigned int flags)
{
	return call(OP_SPLICE, handle_of(in), handle_of(out), length, flags, 0, NULL);
}

static int pd_netdev_send(void *userdata, const void *packet, size_t length)
{
	return call_with(OP_NETDEV_SEND, NO_HANDLE, 0, 0, packet, length);
}

/* No bytes: nothing will come. packetdrill takes that for a packet that is none, and says at which line. */
static int pd_netdev_receive(void *userdata, void *buffer, size_t *length, long long *usecs)
{
	struct payload payload = { 0 };

	*usecs = call(OP_NETDEV_RECEIVE, NO_HANDLE, 0, 0, 0, 0, &payload);
	if (payload.out_length == 0)
		fputs("plugin: the stack sends nothing more\n", stderr);
	if (payload.out_length < *length)
		*length = payload.out_length;
	memcpy(buffer, payload.out, *length);
	free(payload.out);
	return 0;
}

/* Only the main thread's sleep lets the daemon go on: the other must look busy until it is in its blocking call. */
static int pd_usleep(void *userdata, useconds_t usecs)
{
	clock_advance(usecs);
	if (pthread_equal(pthread_self(), main_thread))
		call(OP_SLEEP, NO_HANDLE, 0, 0, 0, 0, NULL);
	return 0;
}

static int pd_gettimeofday(void *userdata, struct timeval *time, struct timezone *zone)
{
	long long now = over_at ? over_at : clock_advance(1);

	over_at = 0;
	time->tv_sec = now / 1000000;
	time->tv_usec = now % 1000000;
	return 0;
}

void packetdrill_interface_init(const char *flags, struct packetdrill_interface *interface)
{
	main_thread = pthread_self();
	if (!flags || strlen(flags) >= sizeof(socket_path)) {
		fputs("plugin: --so_flags is to be the path of the daemon's socket\n", stderr);
		exit(EXIT_FAILURE);
	}
	strcpy(socket_path, flags);
	unsetenv("LD_PRELOAD");		/* it is for packetdrill, not for the commands of its scripts */
	call(OP_HELLO, NO_HANDLE, 0, 0, 0, 0, NULL);
	*interface = (struct packetdrill_interface){
		.free = pd_free,
		.socket = pd_socket,
		.bind = pd_bind,
		.listen = pd_listen,
		.accept = pd_accept,
		.connect = pd_connect,
		.read = pd_read,
		.readv = pd_readv,
		.recv = pd_recv,
		.recvfrom = pd_recvfrom,
		.recvmsg = pd_recvmsg,
		.write = pd_write,
		.writev = pd_writev,
		.send = pd_send,
		.sendto = pd_sendto,
		.sendmsg = pd_sendmsg,
		.fcntl = pd_fcntl,
		.ioctl = pd_ioctl,
		.close = pd_close,
		.shutdown = pd_shutdown,
		.getsockopt = pd_getsockopt,
		.setsockopt = pd_setsockopt,
		.poll = pd_poll,
		.netdev_send = pd_netdev_send,
		.netdev_receive = pd_netdev_receive,
		.usleep = pd_usleep,
		.gettimeofday = pd_gettimeofday,
		.epoll_create = pd_epoll_create,
		.epoll_ctl = pd_epoll_ctl,
		.epoll_wait = pd_epoll_wait,
		.pipe = pd_pipe,
		.splice = pd_splice,
	};
}

/* -- preloaded: what packetdrill calls past its interface */

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	int (*next)(int, int, int, void *, socklen_t *) = dlsym(RTLD_NEXT, "getsockopt");

	return handle_of(fd) < 0 ? next(fd, level, name, value, length)
				 : pd_getsockopt(NULL, fd, level, name, value, length);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
	ssize_t (*next)(int, int, off_t *, size_t) = dlsym(RTLD_NEXT, "sendfile");

	if (handle_of(out) < 0)
		return next(out, in, offset, count);
	char *data = malloc(count + 1);
	ssize_t got = offset ? pread(in, data, count, *offset) : read(in, data, count);
	if (got > 0)
		got = pd_send(NULL, out, data, got, 0);
	if (got > 0 && offset)
		*offset += got;
	free(data);
	return got;
}

/*
 * The daemon is told before, so that files show what is, and after, so that what was written to them counts. The shell is
 * bash, as the scripts take for granted: to another, "&>" is a command in the background.
 */
int system(const char *command)
{
	int status = -1;

	call(OP_SYSTEM, NO_HANDLE, 0, 0, 0, 0, NULL);
	pid_t child = fork();
	if (child == 0) {
		execlp("bash", "bash", "-c", command, (char *)NULL);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	if (child > 0)
		waitpid(child, &status, 0);
	call(OP_SYSTEM, NO_HANDLE, 1, 0, 0, 0, NULL);
	return status;
}
