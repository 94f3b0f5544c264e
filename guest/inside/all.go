package inside

import (
	"context"
	"runtime"
	"sync"

	"vmcsnote/guest"
)

// maxWorkers bounds how many machines are looked at in parallel: each needs
// some 30 MiB.
const maxWorkers = 4

// All looks at all of a host's machines, including those within others, and
// returns what runs in each. The systems have no Kernel: 200 of them would need
// too much memory. progress, if not nil, is told how many machines of how many
// are done.
func All(ctx context.Context, h *guest.Host, o Options, progress func(done, total int)) (map[*guest.Machine]*System, error) {
	var ms []*guest.Machine
	for m := range h.All() {
		ms = append(ms, m)
	}
	all := make(map[*guest.Machine]*System, len(ms))
	var mutex sync.Mutex
	next := make(chan *guest.Machine)
	var workers sync.WaitGroup
	for range min(maxWorkers, runtime.GOMAXPROCS(0), len(ms)) {
		workers.Go(func() {
			for m := range next {
				s := Look(m, o)
				s.Kernel = nil
				m.Forget()
				mutex.Lock()
				all[m] = s
				if progress != nil {
					progress(len(all), len(ms))
				}
				mutex.Unlock()
			}
		})
	}
	for _, m := range ms {
		if ctx.Err() != nil {
			break
		}
		next <- m
	}
	close(next)
	workers.Wait()
	return all, ctx.Err()
}
