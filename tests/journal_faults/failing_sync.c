/* Stands before the system's fdatasync and fsync: the call of number V2G_FAILING_SYNC of a process fails with EIO, as a disk
 * does that failed once; all others are the system's own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

static int is_the_one(void) {
    static int calls;
    const char *wanted = getenv("V2G_FAILING_SYNC");
    return wanted && __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == atoi(wanted);
}

static int call(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (is_the_one()) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fdatasync(int fd) { return call("fdatasync", fd); }
int fsync(int fd) { return call("fsync", fd); }
