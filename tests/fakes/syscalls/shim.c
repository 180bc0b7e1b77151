/* A layer between a program and libc (LD_PRELOAD) that makes calls about chosen paths fail, hang or
 * be the program's last. It is steered by a file that it maps: the layout is in __init__.py. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { RULES = 4, TEXT = 240 };
enum { OFF, KILL, FAIL, HANG };
enum {
	OPEN = 1 << 0, CREATE = 1 << 1, READ = 1 << 2, WRITE = 1 << 3, FSYNC = 1 << 4,
	RENAME = 1 << 5, UNLINK = 1 << 6, MKDIR = 1 << 7, CHMOD = 1 << 8, LIST = 1 << 9,
	STAT = 1 << 10, READLINK = 1 << 11, BIND = 1 << 12, CONNECT = 1 << 13, ACCEPT = 1 << 14,
	SEND = 1 << 15, RECEIVE = 1 << 16, INOTIFY_INIT = 1 << 17, INOTIFY_WATCH = 1 << 18,
};

struct rule {
	uint32_t calls, action, error, skip, times, seen, fired, unused;
	char prefix[TEXT];
	char where[TEXT];
};

struct control {
	int64_t clock_offset_ns;
	uint32_t calls, unused;
	struct rule rules[RULES];
};

/* In the order of their bits. */
static const char *const names[] = {
	"open", "create", "read", "write", "fsync", "rename", "unlink", "mkdir", "chmod", "list",
	"stat", "readlink", "bind", "connect", "accept", "send", "receive", "inotify_init",
	"inotify_add_watch",
};

static struct control *control;

__attribute__((constructor)) static void attach(void)
{
	const char *path = getenv("SYSCALL_FAULTS");
	int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	if (map != MAP_FAILED)
		control = map;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REAL(name)                                                                                 \
	({                                                                                         \
		static __typeof__(&name) next;                                                     \
		if (!next)                                                                         \
			next = NEXT(name);                                                         \
		next;                                                                              \
	})

static int wanted(uint32_t call)
{
	return control && (__atomic_load_n(&control->calls, __ATOMIC_ACQUIRE) & call);
}

static void act(struct rule *rule, uint32_t call, const char *path)
{
	snprintf(rule->where, TEXT, "%s %s", names[__builtin_ctz(call)], path);
	__atomic_add_fetch(&rule->fired, 1, __ATOMIC_SEQ_CST);
	if (rule->action == KILL) {
		syscall(SYS_kill, getpid(), SIGKILL);
		for (;;)
			pause();
	}
	while (__atomic_load_n(&rule->action, __ATOMIC_ACQUIRE) == HANG)
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

/* The error that the call is to have, 0 where it goes through. */
static int verdict(uint32_t call, const char *path)
{
	for (int i = 0; i < RULES; i++) {
		struct rule *rule = &control->rules[i];
		uint32_t action = __atomic_load_n(&rule->action, __ATOMIC_ACQUIRE);
		if (action == OFF || !(rule->calls & call) ||
		    strncmp(path, rule->prefix, strlen(rule->prefix)))
			continue;
		uint32_t seen = __atomic_fetch_add(&rule->seen, 1, __ATOMIC_SEQ_CST);
		if (seen < rule->skip || seen - rule->skip >= rule->times)
			continue;
		act(rule, call, path);
		if (action == FAIL)
			return (int)rule->error;
	}
	return 0;
}

static int named(uint32_t call, const char *path)
{
	return wanted(call) && path ? verdict(call, path) : 0;
}

/* A file's path, a unix socket's own address or else its peer's. */
static int opened(uint32_t call, int fd)
{
	char link[32], path[4096];
	if (!wanted(call))
		return 0;
	int kept = errno;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	long size = syscall(SYS_readlink, link, path, sizeof path - 1);
	path[size > 0 ? size : 0] = 0;
	if (!strncmp(path, "socket:", 7)) {
		struct sockaddr_un address = {0};
		socklen_t length = sizeof address;
		getsockname(fd, (struct sockaddr *)&address, &length);
		if (length <= offsetof(struct sockaddr_un, sun_path) || !address.sun_path[0]) {
			memset(&address, 0, sizeof address);
			length = sizeof address;
			getpeername(fd, (struct sockaddr *)&address, &length);
		}
		snprintf(path, sizeof path, "%.*s", (int)sizeof address.sun_path,
			 address.sun_family == AF_UNIX ? address.sun_path : "");
	}
	errno = kept;
	return verdict(call, path);
}

#define FAIL_IF(error, result)                                                                     \
	do {                                                                                       \
		int failure = (error);                                                             \
		if (failure) {                                                                     \
			errno = failure;                                                           \
			return result;                                                             \
		}                                                                                  \
	} while (0)

#define OPENING(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR) ? CREATE : OPEN)
#define MODE(mode, flags)                                                                          \
	mode_t mode = 0;                                                                           \
	if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                   \
		va_list rest;                                                                      \
		va_start(rest, flags);                                                             \
		mode = va_arg(rest, mode_t);                                                       \
		va_end(rest);                                                                      \
	}

int open(const char *path, int flags, ...)
{
	MODE(mode, flags);
	FAIL_IF(named(OPENING(flags), path), -1);
	return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	MODE(mode, flags);
	FAIL_IF(named(OPENING(flags), path), -1);
	return REAL(open64)(path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...)
{
	MODE(mode, flags);
	FAIL_IF(named(OPENING(flags), path), -1);
	return REAL(openat64)(directory, path, flags, mode);
}

/* Of the calls without a function of their own: openat2, whose arguments are a directory, a name in it
 * and, first, the flags. What is opened by its path alone is looked at, or a link to be read. */
static int opened_below(int directory, const char *name, uint64_t flags)
{
	char link[32], path[8192];
	snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
	long size = REAL(syscall)(SYS_readlink, link, path, 4096);
	if (size < 0)
		return 0;
	snprintf(path + size, sizeof path - size, "%s%s", *name == '/' ? "" : "/", name);
	uint32_t call = flags & O_PATH ? (flags & O_NOFOLLOW ? READLINK : STAT)
				       : (flags & O_DIRECTORY ? LIST : OPENING(flags));
	return named(call, path);
}

long syscall(long number, ...)
{
	long a[6];
	va_list rest;
	va_start(rest, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(rest, long);
	va_end(rest);
	if (number == 437 /* SYS_openat2 */ && control)
		FAIL_IF(opened_below((int)a[0], (const char *)a[1], *(const uint64_t *)a[2]), -1);
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t read(int fd, void *buffer, size_t size)
{
	FAIL_IF(opened(READ, fd), -1);
	return REAL(read)(fd, buffer, size);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
	FAIL_IF(opened(WRITE, fd), -1);
	return REAL(write)(fd, buffer, size);
}

int fsync(int fd)
{
	FAIL_IF(opened(FSYNC, fd), -1);
	return REAL(fsync)(fd);
}

int rename(const char *from, const char *to)
{
	FAIL_IF(named(RENAME, to), -1);
	return REAL(rename)(from, to);
}

int unlink(const char *path)
{
	FAIL_IF(named(UNLINK, path), -1);
	return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
	FAIL_IF(named(MKDIR, path), -1);
	return REAL(mkdir)(path, mode);
}

int chmod(const char *path, mode_t mode)
{
	FAIL_IF(named(CHMOD, path), -1);
	return REAL(chmod)(path, mode);
}

int fchmod(int fd, mode_t mode)
{
	FAIL_IF(opened(CHMOD, fd), -1);
	return REAL(fchmod)(fd, mode);
}

DIR *opendir(const char *path)
{
	FAIL_IF(named(LIST, path), NULL);
	return REAL(opendir)(path);
}

int stat64(const char *path, struct stat64 *status)
{
	FAIL_IF(named(STAT, path), -1);
	return REAL(stat64)(path, status);
}

int lstat64(const char *path, struct stat64 *status)
{
	FAIL_IF(named(STAT, path), -1);
	return REAL(lstat64)(path, status);
}

ssize_t readlink(const char *path, char *buffer, size_t size)
{
	FAIL_IF(named(READLINK, path), -1);
	return REAL(readlink)(path, buffer, size);
}

static const char *socket_path(const struct sockaddr *address)
{
	return address && address->sa_family == AF_UNIX ? ((const struct sockaddr_un *)address)->sun_path
							: NULL;
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	FAIL_IF(named(BIND, socket_path(address)), -1);
	return REAL(bind)(fd, address, length);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	FAIL_IF(named(CONNECT, socket_path(address)), -1);
	return REAL(connect)(fd, address, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	FAIL_IF(opened(ACCEPT, fd), -1);
	return REAL(accept4)(fd, address, length, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	FAIL_IF(opened(SEND, fd), -1);
	return REAL(sendmsg)(fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	FAIL_IF(opened(RECEIVE, fd), -1);
	return REAL(recvmsg)(fd, message, flags);
}

ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
	FAIL_IF(opened(SEND, fd), -1);
	return REAL(send)(fd, buffer, size, flags);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
	FAIL_IF(opened(RECEIVE, fd), -1);
	return REAL(recv)(fd, buffer, size, flags);
}

int inotify_init1(int flags)
{
	FAIL_IF(named(INOTIFY_INIT, ""), -1);
	return (int)syscall(SYS_inotify_init1, flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	FAIL_IF(named(INOTIFY_WATCH, path), -1);
	return (int)syscall(SYS_inotify_add_watch, fd, path, mask);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = REAL(clock_gettime)(clock, now);
	int64_t offset = control ? __atomic_load_n(&control->clock_offset_ns, __ATOMIC_ACQUIRE) : 0;
	if (result == 0 && clock == CLOCK_REALTIME && offset) {
		int64_t sum = now->tv_sec * 1000000000LL + now->tv_nsec + offset;
		now->tv_sec = sum / 1000000000LL;
		now->tv_nsec = sum % 1000000000LL;
	}
	return result;
}

/* Whoever asks libc by name for a function, as ctypes does, finds those above as well. */
void *dlopen(const char *path, int flags)
{
	return REAL(dlopen)(path && !strcmp(path, "libc.so.6") ? NULL : path, flags);
}
