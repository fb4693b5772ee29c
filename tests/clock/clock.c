/* A wall clock that stands where a test puts it: loaded into a program with LD_PRELOAD, below the C
 * library's calls that read the time of day.
 *
 * CLOCK_FILE names a file of eight bytes: nanoseconds since 1970, in the machine's own order. The
 * test writes them; the program sees them at once. The clocks that count time from a start are the
 * machine's, so that time-outs and pauses take as long as they do. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t *stands;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) abort();
    void *at = mmap(NULL, sizeof *stands, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (at == MAP_FAILED) abort();
    stands = at;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) {
        return (int)syscall(SYS_clock_gettime, clock, time);
    }
    int64_t now = atomic_load(stands);
    time->tv_sec = now / 1000000000;
    time->tv_nsec = now % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    int64_t now = atomic_load(stands);
    time->tv_sec = now / 1000000000;
    time->tv_usec = now % 1000000000 / 1000;
    return 0;
}

time_t time(time_t *into) {
    time_t now = atomic_load(stands) / 1000000000;
    if (into) *into = now;
    return now;
}
