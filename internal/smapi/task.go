package smapi

// The requests of the class Task. What each does is in Calls.
type (
	TaskStat struct {
		answers[Task]
		ID string `json:"id"`
	}
	TaskCancel struct {
		answers[Unit]
		ID string `json:"id"`
	}
	TaskDestroy struct {
		answers[Unit]
		ID string `json:"id"`
	}
	TaskLs struct{ answers[[]string] }
)

// Call is Task.stat.
func (TaskStat) Call() string { return "Task.stat" }

// Call is Task.cancel.
func (TaskCancel) Call() string { return "Task.cancel" }

// Call is Task.destroy.
func (TaskDestroy) Call() string { return "Task.destroy" }

// Call is Task.ls.
func (TaskLs) Call() string { return "Task.ls" }

// Task is a call that takes long.
type Task struct {
	ID        string    `json:"id"`
	DebugInfo string    `json:"debug_info"`
	CTime     float64   `json:"ctime" about:"seconds since 1970"`
	State     TaskState `json:"state"`
}

// TaskState is how far it is.
type TaskState struct {
	Pending   *float64   `json:"Pending" about:"from 0 to 1"`
	Completed *Completed `json:"Completed"`
	Failed    *string    `json:"Failed"`
}

func (TaskState) isVariant() {}

// MarshalJSON is as a variant.
func (s TaskState) MarshalJSON() ([]byte, error) { return marshalVariant(s) }

// UnmarshalJSON is of a variant.
func (s *TaskState) UnmarshalJSON(data []byte) error { return unmarshalVariant(data, s) }

// Completed is a task that is over.
type Completed struct {
	Duration float64     `json:"duration" about:"seconds"`
	Result   *TaskResult `json:"result,omitempty"`
}

// TaskResult is what came of it.
type TaskResult struct {
	UnitResult *Unit   `json:"UnitResult"`
	Volume     *Volume `json:"Volume"`
}

func (TaskResult) isVariant() {}

// MarshalJSON is as a variant.
func (r TaskResult) MarshalJSON() ([]byte, error) { return marshalVariant(r) }

// UnmarshalJSON is of a variant.
func (r *TaskResult) UnmarshalJSON(data []byte) error { return unmarshalVariant(data, r) }
