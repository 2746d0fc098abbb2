package hammer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"reflinksr/sr"
)

// watch reads the records of all volumes over and over, as any reader may without a
// lock, until the workload is over: each must be whole, or not there. A call that
// reads takes too long to meet what is there for some microseconds only.
func (r *round) watch(over <-chan struct{}) {
	for {
		for _, key := range r.pool.keys() {
			record, err := os.ReadFile(filepath.Join(r.path, sr.Record(sr.Key(key))))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil && !json.Valid(record) {
				err = fmt.Errorf("%.100q is not whole", record)
			}
			if err != nil {
				r.violation("volume %s: its record, read at some moment: %w", key, err)
				return
			}
		}
		select {
		case <-over:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (p *pool) keys() []string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	var keys []string
	for _, v := range p.live {
		keys = append(keys, v.key)
	}
	return keys
}
