/* What the kernels need of the system: to be found by ctypes, and to wait for another thread. */

#ifndef SHOAL_THREADS_H
#define SHOAL_THREADS_H

#include <stdint.h>

#ifdef _WIN32
#include <windows.h>
#define EXPORT __declspec(dllexport)
#else
#include <sched.h>
#define EXPORT __attribute__((visibility("default")))
#endif

#define SPINS_TO_YIELD 2000 /* some tens of microseconds */

/* Wait a moment, having waited `spins` times before: the one that is waited for may want this core. */
static inline void wait_a_moment(int32_t spins) {
    if (spins >= SPINS_TO_YIELD) {
#ifdef _WIN32
        SwitchToThread();
#else
        sched_yield();
#endif
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
