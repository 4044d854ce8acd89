#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace zaya {
namespace {

std::atomic<ParallelRegion> parallel_region{nullptr};

struct Loop {
    std::atomic<int64_t> next{0};
    int64_t items;
    const std::function<void(int64_t)>* body;

    static void work(void* data) {
        Loop& loop = *static_cast<Loop*>(data);
        for (int64_t item; (item = loop.next.fetch_add(1, std::memory_order_relaxed)) < loop.items;)
            (*loop.body)(item);
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
    Loop loop;
    loop.items = items;
    loop.body = &body;
    threads = static_cast<int>(std::min<int64_t>(threads, items));
    ParallelRegion region = parallel_region.load();
    if (threads <= 1)
        Loop::work(&loop);
    else if (region)
        region(Loop::work, &loop, static_cast<unsigned>(threads), 0);
    else
        run_on_new_threads(loop, threads);
}

}  // namespace zaya
