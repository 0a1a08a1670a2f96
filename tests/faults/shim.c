/* Records, and on demand fails, what a process does to the files below one folder. Preloaded into a writer.
 *
 * FAULTS_ROOT names the folder, FAULTS_LOG the file the records are appended to. Each record is a header, a path and
 * the written bytes; tests/faults/recording.py reads them. A write is recorded after it was made and a flush before it
 * is begun, so that a replay never believes more to be on the disk than was. `faults_arm` makes the n-th write or flush
 * from now fail with an errno, or end the process; a failed write is not carried out. A second path follows the first
 * after a NUL where an operation has two.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_PARTS 1024
#define LOG_DESCRIPTOR 900

struct header {
    uint32_t op;
    uint32_t path_bytes;
    uint64_t inode;
    uint64_t offset;
    uint64_t data_bytes;
};

static char root[PATH_MAX];
static size_t root_bytes;
static int log_descriptor = -1;
static int armed_op, armed_errno;
static long armed_left;

__attribute__((constructor)) static void start(void)
{
    const char *folder = getenv("FAULTS_ROOT"), *log = getenv("FAULTS_LOG");
    if (!folder || !realpath(folder, root))
        return;
    root_bytes = strlen(root);
    if (!log)
        return;
    int opened = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    log_descriptor = opened < 0 ? -1 : syscall(SYS_fcntl, opened, F_DUPFD_CLOEXEC, LOG_DESCRIPTOR);
    if (opened >= 0)
        syscall(SYS_close, opened);
}

/* errno_value 0 disarms; a negative one ends the process as SIGKILL does. */
void faults_arm(int op, long after_count, int errno_value)
{
    armed_op = op;
    armed_left = after_count;
    armed_errno = errno_value;
}

long faults_left(void)
{
    return armed_errno ? armed_left : -1;
}

static int fails(int op)
{
    if (!armed_errno || armed_op != op || armed_left-- > 0)
        return 0;
    if (armed_errno < 0)
        syscall(SYS_kill, getpid(), SIGKILL);
    errno = armed_errno;
    return 1;
}

static void resolve(int folder, const char *path, char *result)
{
    char whole[2 * PATH_MAX + 2], base[PATH_MAX] = "", parent[PATH_MAX], link[64];
    result[0] = 0;
    if (!path)
        return;
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(base, sizeof base))
                return;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t size = readlink(link, base, sizeof base - 1);
            if (size < 0)
                return;
            base[size] = 0;
        }
    }
    snprintf(whole, sizeof whole, "%s%s%s", base, base[0] ? "/" : "", path);
    char *slash = strrchr(whole, '/');
    *slash = 0;
    if (realpath(whole[0] ? whole : "/", parent) && strlen(parent) + strlen(slash + 1) + 2 < PATH_MAX) {
        strcpy(result, parent);
        strcat(result, "/");
        strcat(result, slash + 1);
    }
}

static int is_inside(const char *path)
{
    return root_bytes && strncmp(path, root, root_bytes) == 0 && (path[root_bytes] == '/' || !path[root_bytes]);
}

static int name_of(int descriptor, char *path, uint64_t *inode)
{
    char link[64];
    struct stat status;
    if (!root_bytes || descriptor < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    if (!is_inside(path) || fstat(descriptor, &status) != 0)
        return 0;
    *inode = status.st_ino;
    return 1;
}

static void record(int op, const char *path, size_t path_bytes, uint64_t inode, uint64_t offset,
                   const struct iovec *parts, int part_count, uint64_t data_bytes)
{
    struct header head = { op, path_bytes, inode, offset, data_bytes };
    struct iovec all[MOST_PARTS + 2] = { { &head, sizeof head }, { (void *) path, path_bytes } };
    int used = 2;
    if (log_descriptor < 0)
        return;
    for (int index = 0; index < part_count && data_bytes; index++) {
        size_t size = parts[index].iov_len < data_bytes ? parts[index].iov_len : data_bytes;
        all[used].iov_base = parts[index].iov_base;
        all[used++].iov_len = size;
        data_bytes -= size;
    }
    if (syscall(SYS_writev, log_descriptor, all, used) < 0)
        abort();
}

#define REAL(type, name, parameters)                        \
    static type (*real) parameters;                         \
    if (!real)                                              \
        real = (type (*) parameters) dlsym(RTLD_NEXT, #name)

static void wrote(int descriptor, const char *path, uint64_t inode, const struct iovec *parts, int count, off_t at,
                  ssize_t result)
{
    int kept = errno;
    int flags = fcntl(descriptor, F_GETFL);
    if (at < 0)
        at = lseek(descriptor, 0, SEEK_CUR) - result;
    if (result > 0)
        record(flags >= 0 && (flags & (O_DSYNC | O_SYNC)) ? 'D' : 'W', path, strlen(path), inode, at, parts, count,
               result);
    errno = kept;
}

#define WRITE(name, parameters, arguments, parts, count, at)                          \
    ssize_t name parameters                                                          \
    {                                                                                \
        REAL(ssize_t, name, parameters);                                             \
        char path[PATH_MAX];                                                         \
        uint64_t inode;                                                              \
        if (!name_of(descriptor, path, &inode))                                      \
            return real arguments;                                                   \
        if (fails('W'))                                                              \
            return -1;                                                               \
        ssize_t result = real arguments;                                             \
        wrote(descriptor, path, inode, parts, count, at, result);                    \
        return result;                                                               \
    }

#define ONE (&(struct iovec) { (void *) data, size })
WRITE(write, (int descriptor, const void *data, size_t size), (descriptor, data, size), ONE, 1, -1)
WRITE(pwrite, (int descriptor, const void *data, size_t size, off_t at), (descriptor, data, size, at), ONE, 1, at)
WRITE(pwrite64, (int descriptor, const void *data, size_t size, off_t at), (descriptor, data, size, at), ONE, 1, at)
WRITE(writev, (int descriptor, const struct iovec *parts, int count), (descriptor, parts, count), parts, count, -1)
WRITE(pwritev, (int descriptor, const struct iovec *parts, int count, off_t at), (descriptor, parts, count, at), parts,
      count, at)
WRITE(pwritev64, (int descriptor, const struct iovec *parts, int count, off_t at), (descriptor, parts, count, at),
      parts, count, at)

#define FLUSH(name)                                                                  \
    int name(int descriptor)                                                         \
    {                                                                                \
        REAL(int, name, (int));                                                      \
        char path[PATH_MAX];                                                         \
        uint64_t inode;                                                              \
        if (!name_of(descriptor, path, &inode))                                      \
            return real(descriptor);                                                 \
        int failed = fails('F');                                                     \
        int kept = errno;                                                            \
        record(failed ? 'E' : 'F', path, strlen(path), inode, 0, NULL, 0, 0);        \
        errno = kept;                                                                \
        return failed ? -1 : real(descriptor);                                       \
    }
FLUSH(fsync)
FLUSH(fdatasync)

#define TRUNCATE(name)                                                               \
    int name(int descriptor, off_t size)                                             \
    {                                                                                \
        REAL(int, name, (int, off_t));                                               \
        char path[PATH_MAX];                                                         \
        uint64_t inode;                                                              \
        int result = real(descriptor, size), kept = errno;                           \
        if (result == 0 && name_of(descriptor, path, &inode))                        \
            record('T', path, strlen(path), inode, size, NULL, 0, 0);                \
        errno = kept;                                                                \
        return result;                                                               \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

static void opened(int descriptor, int flags)
{
    char path[PATH_MAX];
    uint64_t inode;
    int kept = errno;
    if (descriptor >= 0 && (flags & O_CREAT) && name_of(descriptor, path, &inode)) {
        record('C', path, strlen(path), inode, 0, NULL, 0, 0);
        if (flags & O_TRUNC)
            record('T', path, strlen(path), inode, 0, NULL, 0, 0);
    }
    errno = kept;
}

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...)                                       \
    {                                                                                \
        REAL(int, name, (const char *, int, ...));                                   \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        int descriptor = real(path, flags, va_arg(rest, mode_t));                    \
        va_end(rest);                                                                \
        opened(descriptor, flags);                                                   \
        return descriptor;                                                           \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int folder, const char *path, int flags, ...)                           \
    {                                                                                \
        REAL(int, name, (int, const char *, int, ...));                              \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        int descriptor = real(folder, path, flags, va_arg(rest, mode_t));            \
        va_end(rest);                                                                \
        opened(descriptor, flags);                                                   \
        return descriptor;                                                           \
    }
OPENAT(openat)
OPENAT(openat64)

static void named(int op, const char *first, const char *second)
{
    char both[2 * PATH_MAX + 2];
    struct stat status;
    int kept = errno;
    size_t size = strlen(first);
    if (is_inside(first) || (second && is_inside(second))) {
        memcpy(both, first, size + 1);
        if (second) {
            strcpy(both + size + 1, second);
            size += 1 + strlen(second);
        }
        uint64_t inode = lstat(second ? second : first, &status) == 0 ? status.st_ino : 0;
        record(op, both, size, inode, 0, NULL, 0, 0);
    }
    errno = kept;
}

#define ONE_NAME(op, name, parameters, arguments, folder)                            \
    int name parameters                                                              \
    {                                                                                \
        REAL(int, name, parameters);                                                 \
        char whole[PATH_MAX];                                                        \
        resolve(folder, path, whole);                                                \
        int result = real arguments;                                                 \
        if (result == 0)                                                             \
            named(op, whole, NULL);                                                  \
        return result;                                                               \
    }
ONE_NAME('U', unlink, (const char *path), (path), AT_FDCWD)
ONE_NAME('U', unlinkat, (int folder, const char *path, int flags), (folder, path, flags), folder)
ONE_NAME('U', rmdir, (const char *path), (path), AT_FDCWD)
ONE_NAME('M', mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD)
ONE_NAME('M', mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), folder)

#define TWO_NAMES(op, name, parameters, arguments, folder, other_folder)             \
    int name parameters                                                              \
    {                                                                                \
        REAL(int, name, parameters);                                                 \
        char whole[PATH_MAX], other[PATH_MAX];                                       \
        resolve(folder, path, whole);                                                \
        resolve(other_folder, other_path, other);                                    \
        int result = real arguments;                                                 \
        if (result == 0)                                                             \
            named(op, whole, other);                                                 \
        return result;                                                               \
    }
TWO_NAMES('R', rename, (const char *path, const char *other_path), (path, other_path), AT_FDCWD, AT_FDCWD)
TWO_NAMES('R', renameat, (int folder, const char *path, int other_folder, const char *other_path),
          (folder, path, other_folder, other_path), folder, other_folder)
TWO_NAMES('L', link, (const char *path, const char *other_path), (path, other_path), AT_FDCWD, AT_FDCWD)
