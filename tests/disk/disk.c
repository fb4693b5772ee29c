/* A disk that loses power, fills up and fails: loaded into a program with LD_PRELOAD, below the C
 * library's calls on files, for the tests.
 *
 * Of everything under the folder DISK_ROOT it keeps, in the folder DISK_STATE, what a disk would hold
 * if the power went off at this moment:
 *
 *   files/INODE     the content of a file as of its last sync
 *   folders/INODE/  the names in a folder as of the folder's last sync: a hard link to files/INODE for
 *                   a file, a symbolic link to the inode's number for a folder
 *   begun           that the first program has started: before, everything is as durable as it was
 *   counters        how often what was called, as an array of 64-bit numbers; see `enum counter`
 *
 * A name counts only when its folder was synced, as POSIX has it. What DISK_MODE says of writes that
 * nobody has synced:
 *
 *   power            all of them are lost
 *   power+range      those that `sync_file_range` covers survive where they overwrite what the durable
 *                    file already had; its growth is lost (what that call leaves behind on ext4)
 *   power+writeback  each that overwrites durable bytes survives or not, by chance from DISK_SEED: the
 *                    kernel writes pages back whenever it likes
 *
 * Faults are files in DISK_STATE/faults that a test writes while the program runs:
 *
 *   capacity         bytes that the files under DISK_ROOT may have together; beyond it: ENOSPC
 *   create, write, sync   ERRNO [CALLS [FAILURES]]: the kind of calls that fails, how many pass before
 *                    it, and how many fail; without, all do
 *   hold             1: a file's syncs begin once this is gone
 *
 * What a sync that fails was to make durable is forgotten, as Linux does it: the next one does not cover
 * it, and works.
 *
 * What goes past the C library (raw system calls, mappings) is not seen. A test therefore compares the
 * two after a clean stop. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum counter { WRITES, FSYNCS, FDATASYNCS, RANGE_SYNCS, FOLDER_SYNCS, COUNTERS };
enum { FILES_MAX = 4096, COPY_BYTES = 1 << 16 };

struct range {
    off_t from, to;
};

struct file {
    dev_t dev;
    ino_t ino;
    /* Of the file as the program sees it, and of the durable one. */
    off_t size, durable;
    /* The shortest that it has been since its last sync. */
    off_t cut_to;
    bool gone, sync_each_write;
    struct range *dirty;
    size_t dirty_count, dirty_room;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES_MAX];
static size_t file_count;
/* Paths in DISK_STATE are a little longer than its own. */
enum { PATH_ROOM = PATH_MAX + 512 };
static char root[PATH_MAX], state[PATH_MAX];
static bool on, keep_range, keep_some;
static uint64_t chance;
static volatile uint64_t *counters;
static long passed[3];

/* The C library's own function. */
#define NEXT(name)                                                                                    \
    ({                                                                                                \
        static __typeof__(&name) found;                                                               \
        if (!found) found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                               \
        found;                                                                                        \
    })

static void give_up(const char *what) {
    dprintf(2, "disk.c: %s: %s\n", what, strerror(errno));
    abort();
}

static void count(enum counter which) {
    if (counters) __atomic_add_fetch(&counters[which], 1, __ATOMIC_RELAXED);
}

/* The path of a thing in DISK_STATE. */
static const char *in_state(char *path, const char *kind, ino_t ino) {
    snprintf(path, PATH_ROOM, "%s/%s/%lu", state, kind, (unsigned long)ino);
    return path;
}

static bool below_root(const char *path) {
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The absolute path of an open file or folder, or false. */
static bool path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return false;
    path[length] = 0;
    return true;
}

/* ---- Faults ---- */

/* Reads up to three numbers from a file of DISK_STATE/faults. */
static int numbers(const char *name, long found[3]) {
    char path[PATH_ROOM], text[64];
    snprintf(path, sizeof path, "%s/faults/%s", state, name);
    int fd = NEXT(open)(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return 0;
    text[length] = 0;
    return sscanf(text, "%ld %ld %ld", &found[0], &found[1], &found[2]);
}

enum fault { CREATE, WRITE, SYNC };

/* Whether this call fails; sets errno. */
static bool fails(enum fault kind) {
    static const char *const names[] = {"create", "write", "sync"};
    /* The error, how many pass, how many fail. */
    long found[3] = {0, 0, LONG_MAX};
    if (!on || numbers(names[kind], found) < 1 || found[0] == 0) return false;
    long call = __atomic_fetch_add(&passed[kind], 1, __ATOMIC_RELAXED);
    if (call < found[1] || call - found[1] >= found[2]) return false;
    errno = (int)found[0];
    return true;
}

static off_t used(void) {
    off_t sum = 0;
    for (size_t i = 0; i < file_count; i++)
        if (!files[i].gone) sum += files[i].size;
    return sum;
}

/* The bytes that are free, or -1 where there is no limit. */
static off_t room(void) {
    long capacity[3] = {0};
    if (numbers("capacity", capacity) < 1) return -1;
    off_t taken = used();
    return taken < capacity[0] ? capacity[0] - taken : 0;
}

/* ---- The durable copies ---- */

static void copy(int from, int to, off_t at, off_t end) {
    static char bytes[COPY_BYTES];
    while (at < end) {
        size_t wanted = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
        ssize_t length = pread(from, bytes, wanted, at);
        if (length < 0) give_up("cannot read a file of the program");
        if (length == 0) return;
        if (NEXT(pwrite)(to, bytes, (size_t)length, at) != length) give_up("cannot write a copy");
        at += length;
    }
}

/* Opens the durable copy of a file, which is made where there is none. */
static int durable_copy(const struct file *file) {
    char path[PATH_ROOM];
    int fd = NEXT(open)(in_state(path, "files", file->ino), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) give_up("cannot open a copy");
    return fd;
}

static void mark(struct file *file, off_t from, off_t to) {
    if (file->dirty_count > 0 && file->dirty[file->dirty_count - 1].to == from) {
        file->dirty[file->dirty_count - 1].to = to;
        return;
    }
    if (file->dirty_count == file->dirty_room) {
        file->dirty_room = file->dirty_room ? 2 * file->dirty_room : 16;
        file->dirty = realloc(file->dirty, file->dirty_room * sizeof *file->dirty);
        if (!file->dirty) give_up("no memory");
    }
    file->dirty[file->dirty_count++] = (struct range){from, to};
}

/* A sync of the whole file: its content and its size. `fd` may be open for writing only. */
static void make_durable(struct file *file, int fd) {
    char path[64];
    struct stat found;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int from = NEXT(open)(path, O_RDONLY | O_CLOEXEC);
    if (from < 0 || fstat(from, &found) < 0) give_up("cannot read a file of the program");
    int to = durable_copy(file);
    if (file->cut_to < file->durable && NEXT(ftruncate)(to, file->cut_to) < 0) give_up("cannot cut a copy");
    for (size_t i = 0; i < file->dirty_count; i++) {
        off_t end = file->dirty[i].to < found.st_size ? file->dirty[i].to : found.st_size;
        copy(from, to, file->dirty[i].from, end);
    }
    if (NEXT(ftruncate)(to, found.st_size) < 0) give_up("cannot set the size of a copy");
    fchmod(to, found.st_mode & 07777);
    file->durable = file->cut_to = file->size = found.st_size;
    file->dirty_count = 0;
    close(to);
    close(from);
}

/* What overwrites durable bytes between `from` and `to` survives; growth does not. */
static void keep_overwritten(struct file *file, int fd, off_t from, off_t to) {
    off_t bound = file->cut_to < file->durable ? file->cut_to : file->durable;
    if (to > bound) to = bound;
    if (from >= to) return;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int source = NEXT(open)(path, O_RDONLY | O_CLOEXEC);
    if (source < 0) give_up("cannot read a file of the program");
    int target = durable_copy(file);
    copy(source, target, from, to);
    close(target);
    close(source);
}

static struct file *known(const struct stat *found) {
    for (size_t i = 0; i < file_count; i++)
        if (files[i].ino == found->st_ino && files[i].dev == found->st_dev) return &files[i];
    return NULL;
}

/* The file behind a descriptor, where it lies under DISK_ROOT. */
static struct file *file_of(int fd) {
    struct stat found;
    if (!on || fstat(fd, &found) < 0 || !S_ISREG(found.st_mode)) return NULL;
    return known(&found);
}

/* Begins to keep track of a file. `is_new`: the inode had another life before, or none. */
static struct file *track(int fd, const struct stat *found, bool is_new) {
    struct file *file = known(found);
    if (!file) {
        if (file_count == FILES_MAX) give_up("too many files");
        file = &files[file_count++];
        *file = (struct file){.dev = found->st_dev, .ino = found->st_ino, .size = found->st_size};
        char path[PATH_ROOM];
        struct stat copied;
        if (!is_new && stat(in_state(path, "files", found->st_ino), &copied) == 0) {
            /* Of an earlier process: what it has synced is not known, so nothing counts as durable
             * but the copy, and the next sync covers all. */
            file->durable = copied.st_size;
            file->cut_to = copied.st_size < found->st_size ? copied.st_size : found->st_size;
            mark(file, 0, found->st_size);
        } else if (!is_new) {
            mark(file, 0, found->st_size);
            make_durable(file, fd);
        }
    }
    if (is_new) {
        char path[PATH_ROOM];
        NEXT(unlink)(in_state(path, "files", found->st_ino));
        file->size = file->durable = file->cut_to = 0;
        file->dirty_count = 0;
        file->gone = file->sync_each_write = false;
    }
    return file;
}

/* A sync of a folder: its names are as they are now. */
static void make_names_durable(const char *folder, ino_t ino) {
    char node[PATH_ROOM], kept[PATH_ROOM + 256], path[PATH_ROOM], target[PATH_ROOM];
    in_state(node, "folders", ino);
    NEXT(mkdir)(node, 0700);
    DIR *names = opendir(folder);
    if (!names) give_up("cannot list a folder");
    for (struct dirent *entry; (entry = readdir(names));) {
        struct stat found, before;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        snprintf(kept, sizeof kept, "%s/%s", node, entry->d_name);
        if (lstat(path, &found) < 0) continue;
        if (S_ISDIR(found.st_mode)) {
            char number[32];
            snprintf(number, sizeof number, "%lu", (unsigned long)found.st_ino);
            NEXT(unlink)(kept);
            if (symlink(number, kept) < 0) give_up("cannot keep the name of a folder");
        } else if (S_ISREG(found.st_mode)) {
            struct file *file = known(&found);
            if (file)
                close(durable_copy(file));
            else
                continue;
            if (lstat(kept, &before) == 0) {
                struct stat copied;
                if (stat(in_state(target, "files", found.st_ino), &copied) == 0 && copied.st_ino == before.st_ino)
                    continue;
                NEXT(unlink)(kept);
            }
            if (link(in_state(target, "files", found.st_ino), kept) < 0) give_up("cannot keep a name");
        }
    }
    closedir(names);
    names = opendir(node);
    if (!names) give_up("cannot list a folder's names");
    for (struct dirent *entry; (entry = readdir(names));) {
        struct stat found;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        snprintf(kept, sizeof kept, "%s/%s", node, entry->d_name);
        if (lstat(path, &found) < 0) NEXT(unlink)(kept);
    }
    closedir(names);
}

/* Takes what is there at the start of the first process for durable. */
static void take_over(const char *folder, bool first) {
    struct stat found;
    DIR *names = opendir(folder);
    if (!names || stat(folder, &found) < 0) give_up("cannot list a folder");
    for (struct dirent *entry; (entry = readdir(names));) {
        char path[PATH_ROOM];
        struct stat inner;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (lstat(path, &inner) < 0) continue;
        if (S_ISDIR(inner.st_mode)) {
            take_over(path, first);
        } else if (S_ISREG(inner.st_mode)) {
            int fd = NEXT(open)(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) give_up(path);
            track(fd, &inner, false);
            close(fd);
        }
    }
    closedir(names);
    if (first) make_names_durable(folder, found.st_ino);
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("DISK_ROOT"), *kept = getenv("DISK_STATE"), *mode = getenv("DISK_MODE");
    if (!where || !kept) return;
    if (!realpath(where, root) || !realpath(kept, state)) give_up("DISK_ROOT and DISK_STATE must be folders");
    keep_range = mode && !strcmp(mode, "power+range");
    keep_some = mode && !strcmp(mode, "power+writeback");
    const char *seed = getenv("DISK_SEED");
    chance = (seed ? strtoull(seed, NULL, 10) : 1) * 2654435761u + 1;
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s/folders", state);
    NEXT(mkdir)(path, 0700);
    snprintf(path, sizeof path, "%s/files", state);
    NEXT(mkdir)(path, 0700);
    snprintf(path, sizeof path, "%s/counters", state);
    int fd = NEXT(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    size_t bytes = COUNTERS * sizeof *counters;
    if (fd < 0 || NEXT(ftruncate)(fd, (off_t)bytes) < 0) give_up("cannot make the counters");
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) give_up("cannot map the counters");
    close(fd);
    counters = mapped;
    /* Who is killed before its end has changed nothing yet, and the next one takes over. */
    snprintf(path, sizeof path, "%s/begun", state);
    bool first = access(path, F_OK) < 0;
    take_over(root, first);
    fd = NEXT(open)(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) give_up("cannot say that the disk has begun");
    close(fd);
    on = true;
}

/* ---- Opening ---- */

static bool writes(int flags) {
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
}

/* After a successful open. */
static int opened(int fd, int flags, bool was_there) {
    char path[PATH_MAX];
    struct stat found;
    if (fd < 0 || !on || !writes(flags) || !path_of(fd, path) || !below_root(path)) return fd;
    if (fstat(fd, &found) < 0 || !S_ISREG(found.st_mode)) return fd;
    pthread_mutex_lock(&lock);
    struct file *file = track(fd, &found, !was_there);
    if ((flags & O_TRUNC) && was_there) {
        file->size = file->cut_to = 0;
        file->dirty_count = 0;
    }
    file->sync_each_write |= (flags & (O_DSYNC | O_SYNC)) != 0;
    pthread_mutex_unlock(&lock);
    return fd;
}

/* Whether a path may lie under DISK_ROOT: relative ones may. */
static bool concerns(const char *path) {
    return on && (path[0] != '/' || below_root(path));
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    struct stat found;
    if (writes(flags) && concerns(path) && fails(CREATE)) return -1;
    bool was_there = fstatat(folder, path, &found, 0) == 0;
    return opened(NEXT(openat)(folder, path, flags, mode), flags, was_there);
}

#define MODE_OF(flags)                                                                                \
    ({                                                                                                \
        mode_t mode = 0;                                                                              \
        if ((flags) & (O_CREAT | O_TMPFILE)) {                                                        \
            va_list rest;                                                                             \
            va_start(rest, flags);                                                                    \
            mode = va_arg(rest, mode_t);                                                              \
            va_end(rest);                                                                             \
        }                                                                                             \
        mode;                                                                                         \
    })

int open(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags, MODE_OF(flags)); }
int open64(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags, MODE_OF(flags)); }
int openat(int folder, const char *path, int flags, ...) { return open_at(folder, path, flags, MODE_OF(flags)); }
int openat64(int folder, const char *path, int flags, ...) { return open_at(folder, path, flags, MODE_OF(flags)); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int mkdir(const char *path, mode_t mode) {
    if (concerns(path) && fails(CREATE)) return -1;
    return NEXT(mkdir)(path, mode);
}

/* ---- Writing ---- */

static bool coin(void) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance & 1;
}

/* `at` < 0: where the descriptor stands. */
static ssize_t write_at(int fd, const struct iovec *parts, int part_count, off_t at) {
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (!file) {
        /* A terminal, a pipe, a socket: it may block, so not under the lock. */
        pthread_mutex_unlock(&lock);
        return at < 0 ? NEXT(writev)(fd, parts, part_count) : NEXT(pwritev)(fd, parts, part_count, at);
    }
    count(WRITES);
    ssize_t written = -1;
    off_t bytes = 0;
    for (int i = 0; i < part_count; i++) bytes += (off_t)parts[i].iov_len;
    int flags = fcntl(fd, F_GETFL);
    off_t from = at >= 0 ? at : flags & O_APPEND ? file->size : lseek(fd, 0, SEEK_CUR);
    if (fails(WRITE)) goto out;
    off_t growth = from + bytes - file->size;
    off_t free_bytes = growth > 0 ? room() : -1;
    if (free_bytes >= 0 && growth > free_bytes) {
        errno = ENOSPC;
        goto out;
    }
    written = at < 0 ? NEXT(writev)(fd, parts, part_count) : NEXT(pwritev)(fd, parts, part_count, at);
    if (written > 0) {
        mark(file, from, from + written);
        if (from + written > file->size) file->size = from + written;
        if (file->sync_each_write)
            make_durable(file, fd);
        else if (keep_some && coin())
            keep_overwritten(file, fd, from, from + written);
    }
out:
    pthread_mutex_unlock(&lock);
    return written;
}

#define ONE(bytes, length) (&(struct iovec){.iov_base = (void *)(bytes), .iov_len = (length)})

ssize_t write(int fd, const void *bytes, size_t length) {
    if (!on) return NEXT(write)(fd, bytes, length);
    return write_at(fd, ONE(bytes, length), 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int part_count) {
    if (!on) return NEXT(writev)(fd, parts, part_count);
    return write_at(fd, parts, part_count, -1);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return write_at(fd, ONE(bytes, length), 1, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) { return write_at(fd, ONE(bytes, length), 1, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int part_count, off_t at) { return write_at(fd, parts, part_count, at); }

static int cut(int fd, off_t size) {
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    int done = -1;
    if (!file || !fails(WRITE)) done = NEXT(ftruncate)(fd, size);
    if (file && done == 0) {
        if (size < file->cut_to) file->cut_to = size;
        file->size = size;
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off_t size) { return cut(fd, size); }

/* ---- Syncing ---- */

/* Without the lock: whoever writes goes on meanwhile. */
static void wait_while_held(void) {
    long held[3];
    while (on && numbers("hold", held) > 0) usleep(1000);
}

/* The real call is left out: this is the disk. */
static int sync_file(int fd, enum counter which) {
    struct stat found;
    char path[PATH_MAX];
    int done = 0;
    wait_while_held();
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file) {
        count(which);
        if (fails(SYNC)) {
            file->dirty_count = 0;
            done = -1;
        } else
            make_durable(file, fd);
    } else if (on && fstat(fd, &found) == 0 && S_ISDIR(found.st_mode) && path_of(fd, path) && below_root(path)) {
        count(FOLDER_SYNCS);
        if (fails(SYNC))
            done = -1;
        else
            make_names_durable(path, found.st_ino);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int fsync(int fd) { return sync_file(fd, FSYNCS); }
int fdatasync(int fd) { return sync_file(fd, FDATASYNCS); }

int sync_file_range(int fd, off_t from, off_t length, unsigned int flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file) {
        count(RANGE_SYNCS);
        off_t to = length == 0 ? file->size : from + length;
        for (size_t i = 0; keep_range && i < file->dirty_count; i++) {
            struct range *dirty = &file->dirty[i];
            off_t begin = dirty->from > from ? dirty->from : from;
            off_t end = dirty->to < to ? dirty->to : to;
            if (begin < end) keep_overwritten(file, fd, begin, end);
        }
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

/* ---- Names ---- */

static void forget(int folder, const char *path) {
    struct stat found;
    if (!concerns(path) || fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW) < 0 || found.st_nlink != 1) return;
    pthread_mutex_lock(&lock);
    struct file *file = known(&found);
    if (file) file->gone = true;
    pthread_mutex_unlock(&lock);
}

int unlink(const char *path) {
    if (concerns(path) && fails(CREATE)) return -1;
    forget(AT_FDCWD, path);
    return NEXT(unlink)(path);
}
int unlinkat(int folder, const char *path, int flags) {
    if (concerns(path) && fails(CREATE)) return -1;
    if (!(flags & AT_REMOVEDIR)) forget(folder, path);
    return NEXT(unlinkat)(folder, path, flags);
}
int rename(const char *from, const char *to) {
    if (concerns(to) && fails(CREATE)) return -1;
    forget(AT_FDCWD, to);
    return NEXT(rename)(from, to);
}

/* ---- Free space ---- */

static int limited(int done, bool here, struct statvfs *found) {
    if (done < 0 || !here) return done;
    pthread_mutex_lock(&lock);
    off_t free_bytes = room();
    pthread_mutex_unlock(&lock);
    if (free_bytes >= 0) found->f_bavail = found->f_bfree = (fsblkcnt_t)(free_bytes / (off_t)found->f_frsize);
    return done;
}
int statvfs(const char *path, struct statvfs *found) { return limited(NEXT(statvfs)(path, found), concerns(path), found); }
int statvfs64(const char *path, struct statvfs64 *found) {
    return limited(NEXT(statvfs)(path, (struct statvfs *)found), concerns(path), (struct statvfs *)found);
}
