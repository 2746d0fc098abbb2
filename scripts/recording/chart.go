package recording

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/smapi"
)

// event is a request or an answer, of the call with that index.
type event struct {
	at     time.Time
	call   int
	answer bool
	others int // calls in progress beside this one
}

// timeline orders the last n calls by their start, and what happened by its time.
func timeline(calls []Call, n int) ([]Call, []event) {
	calls = slices.Clone(calls)
	slices.SortStableFunc(calls, func(a, b Call) int { return a.Time.Compare(b.Time) })
	calls = calls[max(0, len(calls)-n):]
	var events []event
	for i, c := range calls {
		events = append(events, event{at: c.Time, call: i}, event{at: c.end(), call: i, answer: true})
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	open := 0
	for i := range events {
		if events[i].answer {
			open--
		}
		events[i].others = open
		if !events[i].answer {
			open++
		}
	}
	return calls, events
}

// toDatapath says to which of the two plugins a call goes.
func (c Call) toDatapath() bool {
	return smapi.PluginsOf(c.Call) == smapi.InDatapath
}

// Columns of the chart, in characters.
const (
	toolstackAt = 16
	volumeAt    = 82
	datapathAt  = 112
)

// Chart draws the last n calls as a message sequence: requests and answers in the
// order of time, with the number of the call where several are in progress.
func Chart(calls []Call, n int) string {
	calls, events := timeline(calls, n)
	var b strings.Builder
	fmt.Fprintf(&b, "%*s%-*s%-*s%s\n", toolstackAt-4, "", volumeAt-toolstackAt, "toolstack",
		datapathAt-volumeAt, "volume plugin", "datapath plugin")
	day := ""
	for i, e := range events {
		c := calls[e.call]
		if d := c.Time.Format("2006-01-02"); d != day && !e.answer {
			day = d
			fmt.Fprintf(&b, "%s\n", d)
		}
		if i > 0 && e.at.Sub(events[i-1].at) > pause {
			fmt.Fprintf(&b, "%*s|  … %v\n", toolstackAt, "", e.at.Sub(events[i-1].at).Round(100*time.Millisecond))
		}
		to := volumeAt
		if c.toDatapath() {
			to = datapathAt
		}
		width := to - toolstackAt - 1
		label := fmt.Sprintf("-- %d %s %s ", e.call+1, c.Call, c.arguments())
		if e.answer {
			label = fmt.Sprintf("<- %d %s (%v) ", e.call+1, c.outcome(), rounded(c.Duration()))
		}
		shaft := []rune(oneLine(label, width-6))
		for len(shaft) < width {
			shaft = append(shaft, '-')
		}
		if !e.answer {
			shaft[width-1] = '>'
		}
		if to == datapathAt {
			if at := volumeAt - toolstackAt - 1; shaft[at] == '-' {
				shaft[at] = '+'
			}
		}
		beside := ""
		if e.others > 0 {
			beside = fmt.Sprintf("+%d", e.others)
		}
		fmt.Fprintf(&b, "%s %-3s|%s|", e.at.Format("15:04:05.000"), oneLine(beside, 3), string(shaft))
		if to == volumeAt {
			fmt.Fprintf(&b, "%*s", datapathAt-volumeAt, "|")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func rounded(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < time.Second:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}

// arguments are a request's, in short.
func (c Call) arguments() string {
	list, ok := members(c.Request)
	if !ok {
		return oneLine(strings.Join(c.Args, " ")+" "+string(c.Request)+c.RequestText, 60)
	}
	var parts []string
	for _, m := range list {
		if m.name != "dbg" {
			parts = append(parts, oneLine(m.name, 20)+"="+short(m.value, 24))
		}
	}
	return strings.Join(parts, " ")
}

// short is a value in a few characters. Of a UUID, also at the end of a longer text,
// the beginning is enough.
func short(raw json.RawMessage, most int) string {
	s, ok := text(raw)
	if !ok {
		return oneLine(string(raw), most)
	}
	if n := len(s); n >= 36 && s[n-13] == '-' && s[n-28] == '-' {
		before := s[:n-36]
		if len(before) > 12 {
			before = before[:12] + "…"
		}
		return oneLine(before+s[n-36:n-28]+"…", most)
	}
	return oneLine(s, most)
}

// outcome is what came back, in short.
func (c Call) outcome() string {
	if c.Signal != "" {
		return "ended by " + oneLine(c.Signal, 20)
	}
	if r := c.refusal(); r != nil {
		if r.Code == smapi.BackendFailure && len(r.Params) > 0 {
			return "refused " + oneLine(r.Params[0], 40)
		}
		why := strings.TrimPrefix(r.Code, smapi.BackendFailure+"_")
		return "refused " + oneLine(strings.Join(append([]string{why}, slices.DeleteFunc(slices.Clone(r.Params), func(p string) bool { return p == "" })...), " "), 50)
	}
	if len(c.Answer) == 0 || c.Status != 0 {
		return fmt.Sprintf("exit %d, no answer of the interface", c.Status)
	}
	list, isObject := members(c.Answer)
	if !isObject {
		var items []json.RawMessage
		if json.Unmarshal(c.Answer, &items) == nil && c.Answer[0] == '[' {
			return fmt.Sprintf("[%d]", len(items))
		}
		return short(c.Answer, 40)
	}
	for _, m := range list {
		if m.name == "key" || m.name == "sr" {
			return m.name + "=" + short(m.value, 40)
		}
	}
	return oneLine(string(c.Answer), 40)
}
