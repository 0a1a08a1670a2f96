/* A disk with slow flushes, for measurements: every durable write takes BENCH_FLUSH_DELAY_US microseconds longer.
 *
 * Preloaded into a writer process. Covered are the calls by which a store makes bytes durable: fsync, fdatasync, msync
 * with MS_SYNC, and writes through a descriptor opened with O_SYNC or O_DSYNC. The delay comes after the real call and
 * before its return, so whatever lock the caller holds is held that much longer, as on a slow disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void delay(void)
{
    int kept = errno;
    const char *text = getenv("BENCH_FLUSH_DELAY_US");
    long us = text ? atol(text) : 0;
    if (us > 0) {
        struct timespec left = { us / 1000000, (us % 1000000) * 1000 };
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {
        }
    }
    errno = kept;
}

static int is_synced(int descriptor)
{
    int kept = errno;
    int flags = fcntl(descriptor, F_GETFL);
    errno = kept;
    return flags >= 0 && (flags & (O_SYNC | O_DSYNC)) != 0;
}

#define REAL(type, name, parameters)                        \
    static type (*real) parameters;                         \
    if (!real)                                              \
        real = (type (*) parameters) dlsym(RTLD_NEXT, #name)

int fsync(int descriptor)
{
    REAL(int, fsync, (int));
    int result = real(descriptor);
    delay();
    return result;
}

int fdatasync(int descriptor)
{
    REAL(int, fdatasync, (int));
    int result = real(descriptor);
    delay();
    return result;
}

int msync(void *start, size_t length, int flags)
{
    REAL(int, msync, (void *, size_t, int));
    int result = real(start, length, flags);
    if (flags & MS_SYNC)
        delay();
    return result;
}

#define SYNCED_WRITE(name, parameters, arguments)           \
    ssize_t name parameters                                 \
    {                                                       \
        REAL(ssize_t, name, parameters);                    \
        ssize_t result = real arguments;                    \
        if (is_synced(descriptor))                          \
            delay();                                        \
        return result;                                      \
    }

SYNCED_WRITE(write, (int descriptor, const void *data, size_t size), (descriptor, data, size))
SYNCED_WRITE(pwrite, (int descriptor, const void *data, size_t size, off_t at), (descriptor, data, size, at))
SYNCED_WRITE(pwrite64, (int descriptor, const void *data, size_t size, off64_t at), (descriptor, data, size, at))
SYNCED_WRITE(writev, (int descriptor, const struct iovec *parts, int count), (descriptor, parts, count))
SYNCED_WRITE(pwritev, (int descriptor, const struct iovec *parts, int count, off_t at), (descriptor, parts, count, at))
