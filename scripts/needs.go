package scripts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
)

// needs is for scenarios whose calls are not all made by verbs: those that a program of the
// scenario makes fail in it when they are not offered, and what they fail is not to blame.
func (s *script) needs(_ bool, args []string) error {
	if len(args) == 0 {
		return usage("needs")
	}
	for _, method := range args {
		if !inInterface(method) {
			return fmt.Errorf("there is no call %s in the interface", method)
		}
		if !s.config.carriesOut(method) {
			s.calls = append(s.calls, Call{Method: method, Outcome: NotOffered})
			return errNotOffered{method}
		}
		if path := s.config.executable(method); filepath.Base(path) != method {
			s.skip(fmt.Sprintf("%s is offered as %s, which a program of the scenario does not find", method, filepath.Base(path)))
		}
	}
	return nil
}

// skip ends the scenario as skipped; in a shell it goes on.
func (s *script) skip(why string) {
	if s.t != nil {
		s.t.Skip(why)
	}
	s.tell("%s", why)
}

// executable finds that of a call, of any datapath plugin; "" if there is none.
func (c Config) executable(method string) string {
	if smapi.PluginsOf(method) == smapi.InDatapath {
		return c.datapath("*", method)
	}
	return present(filepath.Join(c.Volume, method))
}

// nothing is a request without arguments.
var nothing = []byte(`{"dbg":"scenario"}`)

// carriedOut caches whether an executable's call is offered.
var carriedOut sync.Map

// carriesOut says whether a call is offered: there is an executable, and it does not answer
// Unimplemented to a request without arguments, which is refused for another reason else.
func (c Config) carriesOut(method string) bool {
	path := c.executable(method)
	if path == "" || c.Own || strings.HasPrefix(method, "Plugin.") {
		return path != ""
	}
	st, err := os.Stat(path)
	if err != nil {
		return false
	}
	file := fmt.Sprint(path, st.ModTime(), st.Size()) // a test installs others in its place
	if known, ok := carriedOut.Load(file); ok {
		return known.(bool)
	}
	ctx, cancel := context.WithTimeout(c.context(), c.timeout())
	defer cancel()
	_, err = invoke.Command{Path: path, Request: nothing, Keep: keep}.Run(ctx).Answer()
	var refused *smapi.Failure
	offered := !errors.As(err, &refused) || !isUnimplemented(refused)
	carriedOut.Store(file, offered)
	return offered
}
