package scripts

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"reflinksr/internal/smapi"
)

// mirrorPatience is how long a mirror may take to be complete, or to fail.
const mirrorPatience = 2 * time.Minute

// mirrored asks for a mirror's status, as the toolstack does: again and again, without a pause, until it is complete or has failed.
func (s *script) mirrored(not bool, args []string) error {
	if len(args) != 1 {
		return usage("mirrored")
	}
	var operation smapi.Operation
	if err := json.Unmarshal([]byte(args[0]), &operation); err != nil || operation.MirrorV1 == nil {
		return fmt.Errorf("%s is no mirror, as Data.mirror answers one: %w", args[0], usage("mirrored"))
	}
	for end := time.Now().Add(mirrorPatience); time.Now().Before(end); {
		status, err := ask(s, smapi.DataStat{Operation: operation})
		switch {
		case err != nil:
			return err
		case status.Failed && status.Complete:
			return errors.New("the mirror is complete, and has failed: the toolstack looks at the first alone")
		case status.Failed && !not:
			return errors.New("the mirror has failed")
		case status.Failed || status.Complete && !not:
			return nil
		case status.Complete:
			time.Sleep(100 * time.Millisecond)
		}
	}
	return fmt.Errorf("the mirror was neither complete nor did it fail within %v", mirrorPatience)
}
