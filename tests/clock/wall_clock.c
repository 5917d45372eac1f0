/* Loaded before the C library (LD_PRELOAD): the wall clock is ahead by as many seconds as the file WALL_CLOCK_FILE says,
   an int64_t that may change at any time. The other clocks are right.

   libfaketime knows no cnd_timedwait, which is what librdkafka waits with; and for pthread_cond_timedwait it reckons the
   length of a wait once, where Linux ends the wait when the clock says so, stepped or not. Here it is as on Linux. Python
   waits by the monotonic clock. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND_NS = 1000000000, LOOK_EVERY_NS = 10000000;

typedef int wait_t(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);

static const volatile int64_t *ahead_s;
static wait_t *wait_by_clock;

__attribute__((constructor)) static void find(void) {
    const char *name = getenv("WALL_CLOCK_FILE");
    int file = name ? open(name, O_RDONLY) : -1;
    void *there = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead_s, PROT_READ, MAP_SHARED, file, 0);
    *(void **)&wait_by_clock = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    if (there == MAP_FAILED || !wait_by_clock) abort();
    ahead_s = there;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && ahead_s && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *ahead_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

time_t time(time_t *there) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (there) *there = now.tv_sec;
    return now.tv_sec;
}

/* In short pieces by the monotonic clock, with a look at the wall clock between them. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    for (;;) {
        struct timespec now, piece;
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t left_ns = (until->tv_sec - now.tv_sec) * SECOND_NS + until->tv_nsec - now.tv_nsec;
        if (left_ns <= 0) return thrd_timedout;
        clock_gettime(CLOCK_MONOTONIC, &piece);
        piece.tv_nsec += left_ns < LOOK_EVERY_NS ? left_ns : LOOK_EVERY_NS;
        if (piece.tv_nsec >= SECOND_NS) {
            piece.tv_nsec -= SECOND_NS;
            piece.tv_sec++;
        }
        int result = wait_by_clock((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &piece);
        if (result != ETIMEDOUT) return result ? thrd_error : thrd_success;
    }
}
