/* The one program in the image of the standalone tests; static, as the image holds nothing else.
 *
 *   probe              sleep until killed: the pause container, and containers that only hold devices
 *   probe until PATH   sleep until PATH exists: an init container that a test lets go
 *   probe show FILE    the container's environment and device nodes, and whether each can be opened
 *   probe open FILE M N  make a character node M:N and open it: what the device cgroup says of it
 *
 * `show` writes "env NAME=VALUE" and "node PATH MAJOR:MINOR ERRNO" (0: it opened), `open` an errno. A
 * simulated GPU's node has no driver behind it: ENXIO says that the container may open it, EPERM that
 * it may not. Written to a file, because `ctr tasks exec` loses what a short process prints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int open_errno(const char *path) {
  int descriptor = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return errno;
  close(descriptor);
  return 0;
}

static int show_node(const char *path, const struct stat *status, int kind, struct FTW *where) {
  (void)kind, (void)where;
  if (S_ISCHR(status->st_mode))
    printf("node %s %u:%u %d\n", path, major(status->st_rdev), minor(status->st_rdev),
           open_errno(path));
  return 0;
}

static int show(const char *file) {
  if (!freopen(file, "w", stdout)) return 1;
  for (char **entry = environ; *entry; entry++) printf("env %s\n", *entry);
  return nftw("/dev", show_node, 8, FTW_PHYS);
}

static int try_open(const char *file, int first, int second) {
  const char *path = "/dev/probed";
  if (!freopen(file, "w", stdout) || mknod(path, S_IFCHR | 0600, makedev(first, second))) return 1;
  printf("%d\n", open_errno(path));
  return unlink(path);
}

int main(int count, char **arguments) {
  struct timespec tick = {.tv_nsec = 20 * 1000 * 1000};
  if (count == 3 && !strcmp(arguments[1], "show")) return show(arguments[2]);
  if (count == 5 && !strcmp(arguments[1], "open"))
    return try_open(arguments[2], atoi(arguments[3]), atoi(arguments[4]));
  if (count == 3 && !strcmp(arguments[1], "until")) {
    while (access(arguments[2], F_OK)) nanosleep(&tick, NULL);
    return 0;
  }
  for (;;) pause();
}
