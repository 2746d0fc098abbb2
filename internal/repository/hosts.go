package repository

import (
	"context"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/participant"
	"reflinksr/sr"
)

// Hosts lists the hosts that have the SR attached, if hosts share it. Those of which nobody can tell are the error.
func (s SR) Hosts(context.Context) ([]participant.Host, error) {
	open, err := sr.Open(string(s), dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer open.Close()
	return open.Participants()
}
