package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"reflinksr/internal/smapi"
)

// Plugin is where a plugin's executables are, and who calls.
type Plugin struct {
	Volume   string // directory of the volume plugin
	Datapath string // directory of the datapath plugin
	Debug    string // dbg of the calls
}

// Path is the executable of a call.
func (p Plugin) Path(call string) string {
	if smapi.PluginsOf(call) == smapi.InDatapath {
		return filepath.Join(p.Datapath, call)
	}
	return filepath.Join(p.Volume, call)
}

// Command is the call of a request.
func (p Plugin) Command(r smapi.Request) (Command, error) {
	request, err := Request(p.Debug, r)
	return Command{Path: p.Path(r.Call()), Request: request}, err
}

// Do makes the call of a request, and reads the answer into what into points to, unless it is
// nil. An error names the call; one that the plugin answered is a *smapi.Failure (errors.As).
func (p Plugin) Do(ctx context.Context, r smapi.Request, into any) error {
	c, err := p.Command(r)
	if err == nil {
		err = c.Run(ctx).Into(into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Call(), err)
	}
	return nil
}

// Ask makes the call of a request and returns its answer, with the errors of Do.
func Ask[Result any](ctx context.Context, p Plugin, r smapi.Asks[Result]) (Result, error) {
	var result Result
	err := p.Do(ctx, r, &result)
	return result, err
}

// Into reads the answer into what into points to, unless it is nil, with the errors of Answer.
func (o *Output) Into(into any) error {
	answer, err := o.Answer()
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("answered %.300q: %w", answer, err)
	}
	return nil
}

// Request is the standard input of a call: the arguments as one JSON object, dbg first.
func Request(dbg string, r smapi.Request) ([]byte, error) {
	who, err := json.Marshal(dbg)
	if err != nil {
		return nil, err
	}
	arguments, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	first := append([]byte(`{"dbg":`), who...)
	if rest := bytes.TrimPrefix(arguments, []byte("{")); len(rest) > len("}") {
		return append(append(first, ','), rest...), nil
	}
	return append(first, '}'), nil
}
