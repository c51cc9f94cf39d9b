/*
 * A disk that is full, for tests: preloaded into a page server, it makes writes to regular files below
 * $FULL_DISK_DIR fail with ENOSPC for as long as the file $FULL_DISK_FLAG exists. Reads, syncs, renames
 * and removals work, as they do on a disk that is full. While the file $FAIL_SYNC_FLAG exists, fsync and
 * fdatasync of files below $FULL_DISK_DIR fail with EIO, as they do on a disk that breaks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int
is_struck(int fd, const char *flag_name)
{
	const char *flag = getenv(flag_name);
	const char *dir = getenv("FULL_DISK_DIR");
	char		link[64];
	char		target[PATH_MAX];
	struct stat st;
	ssize_t		length;

	if (flag == NULL || dir == NULL || access(flag, F_OK) != 0)
		return 0;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		return 0;
	target[length] = '\0';
	return strncmp(target, dir, strlen(dir)) == 0;
}

#define REAL(name) \
	static __typeof__(&name) real; \
	if (real == NULL) \
		real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name); \
	if (is_struck(fd, "FULL_DISK_FLAG")) \
	{ \
		errno = ENOSPC; \
		return -1; \
	}

ssize_t
write(int fd, const void *bytes, size_t length)
{
	REAL(write);
	return real(fd, bytes, length);
}

ssize_t
pwrite(int fd, const void *bytes, size_t length, off_t at)
{
	REAL(pwrite);
	return real(fd, bytes, length, at);
}

ssize_t
pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
	REAL(pwrite64);
	return real(fd, bytes, length, at);
}

ssize_t
writev(int fd, const struct iovec *pieces, int count)
{
	REAL(writev);
	return real(fd, pieces, count);
}

ssize_t
pwritev(int fd, const struct iovec *pieces, int count, off_t at)
{
	REAL(pwritev);
	return real(fd, pieces, count, at);
}

ssize_t
pwritev64(int fd, const struct iovec *pieces, int count, off64_t at)
{
	REAL(pwritev64);
	return real(fd, pieces, count, at);
}

#define REAL_SYNC(name) \
	static __typeof__(&name) real; \
	if (real == NULL) \
		real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name); \
	if (is_struck(fd, "FAIL_SYNC_FLAG")) \
	{ \
		errno = EIO; \
		return -1; \
	}

int
fsync(int fd)
{
	REAL_SYNC(fsync);
	return real(fd);
}

int
fdatasync(int fd)
{
	REAL_SYNC(fdatasync);
	return real(fd);
}
