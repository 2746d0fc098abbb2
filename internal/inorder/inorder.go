// Package inorder does things one after another beside whoever has them done: a copy reads on while it writes.
package inorder

import "sync/atomic"

// ahead is how many things may wait while one is done.
const ahead = 2

// Buffers is how many buffers are enough for a Line whose things each use one, in turn.
const Buffers = ahead + 2

// Line does things in the order in which they come, until one fails. It is for one goroutine, which calls End however it ends.
type Line struct {
	todo   chan func() error
	ended  chan struct{}
	failed atomic.Pointer[error]
}

// Begin begins with nothing to do.
func Begin() *Line {
	l := &Line{todo: make(chan func() error, ahead), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for do := range l.todo {
			if l.failed.Load() != nil {
				continue
			}
			if err := do(); err != nil {
				l.failed.Store(&err)
			}
		}
	}()
	return l
}

// Do has something done after what came before. Its error, or that of anything before, is told now or later.
func (l *Line) Do(do func() error) error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	l.todo <- do
	return nil
}

// End waits until all is done, or what is being done after which the rest is not. It returns the first error.
func (l *Line) End() error {
	close(l.todo)
	<-l.ended
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}
