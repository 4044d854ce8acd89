#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace zaya {
namespace {

std::atomic<ParallelRegion> parallel_region{nullptr};

// Each thread works through its own stretch of the items, so that memory is read in order, and then helps with the others'.
struct Loop {
    struct alignas(64) Stretch {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };
    static constexpr int kMostStretches = 16;
    Stretch stretches[kMostStretches];
    std::atomic<int> arrived{0};
    int count;
    const std::function<void(int64_t)>* body;

    Loop(int threads, int64_t items, const std::function<void(int64_t)>& work) : count(std::min(threads, kMostStretches)), body(&work) {
        for (int i = 0; i < count; ++i) {
            stretches[i].next = items * i / count;
            stretches[i].end = items * (i + 1) / count;
        }
    }

    static void work(void* data) {
        Loop& loop = *static_cast<Loop*>(data);
        const int first = loop.arrived.fetch_add(1, std::memory_order_relaxed);
        for (int i = 0; i < loop.count; ++i) {
            Stretch& stretch = loop.stretches[(first + i) % loop.count];
            for (int64_t item; (item = stretch.next.fetch_add(1, std::memory_order_relaxed)) < stretch.end;) (*loop.body)(item);
        }
    }
};

void run_on_new_threads(Loop& loop, int threads) {
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(Loop::work, &loop);
    Loop::work(&loop);
    for (std::thread& other : others) other.join();
}

}  // namespace

void use_parallel_region(ParallelRegion region) { parallel_region.store(region); }

void parallel_for(int threads, int64_t items, const std::function<void(int64_t)>& body) {
    threads = static_cast<int>(std::min<int64_t>(threads, items));
    if (threads <= 1) {
        for (int64_t item = 0; item < items; ++item) body(item);
        return;
    }
    Loop loop(threads, items, body);
    if (ParallelRegion region = parallel_region.load())
        region(Loop::work, &loop, static_cast<unsigned>(threads), 0);
    else
        run_on_new_threads(loop, threads);
}

}  // namespace zaya
