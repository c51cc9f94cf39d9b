/*
 * A disk that is full, for tests: preloaded into a page server, it makes writes to regular files below
 * $FULL_DISK_DIR fail with ENOSPC for as long as the file $FULL_DISK_FLAG exists. Reads, syncs, renames
 * and removals work, as they do on a disk that is full. While the file $FAIL_SYNC_FLAG exists, fsync and
 * fdatasync of files below $FULL_DISK_DIR fail with EIO, as they do on a disk that breaks.
 *
 * Where $FULL_DISK_COUNTS names a file of three 64-bit numbers, they count: writes that still succeed before
 * the disk is full, syncs that still succeed before one fails (below 0: all do), and failures so far.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum
{
	WRITES_LEFT, SYNCS_LEFT, FAILURES, COUNTS
};

static int64_t *
counts(void)
{
	static int64_t *mapped;
	const char *file = getenv("FULL_DISK_COUNTS");
	int			fd;
	void	   *memory;

	if (mapped != NULL || file == NULL)
		return mapped;
	fd = open(file, O_RDWR);
	if (fd < 0)
		return NULL;
	memory = mmap(NULL, COUNTS * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (memory != MAP_FAILED)
		mapped = memory;
	return mapped;
}

/* True for a write once none is left, and for the one sync at which none is. */
static int
is_used_up(int which)
{
	int64_t    *all = counts();
	int64_t		left;

	if (all == NULL)
		return 0;
	left = __atomic_load_n(&all[which], __ATOMIC_SEQ_CST);
	if (left < 0)
		return 0;
	if (left > 0)
	{
		__atomic_sub_fetch(&all[which], 1, __ATOMIC_SEQ_CST);
		return 0;
	}
	if (which == SYNCS_LEFT)
		__atomic_store_n(&all[which], -1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&all[FAILURES], 1, __ATOMIC_SEQ_CST);
	return 1;
}

static int
is_below(int fd)
{
	const char *dir = getenv("FULL_DISK_DIR");
	char		link[64];
	char		target[PATH_MAX];
	struct stat st;
	ssize_t		length;

	if (dir == NULL)
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

static int
is_struck(int fd, const char *flag_name, int which)
{
	const char *flag = getenv(flag_name);
	int			flagged = flag != NULL && access(flag, F_OK) == 0;

	if (!flagged && counts() == NULL)
		return 0;
	return is_below(fd) && (flagged || is_used_up(which));
}

#define REAL(name) \
	static __typeof__(&name) real; \
	if (real == NULL) \
		real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name); \
	if (is_struck(fd, "FULL_DISK_FLAG", WRITES_LEFT)) \
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
	if (is_struck(fd, "FAIL_SYNC_FLAG", SYNCS_LEFT)) \
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
