package domain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"reflinksr/scripts/domain/xenstore"
)

// The agent in a guest takes commands out of XenStore, one at a time: there is no
// network and no shell to log in to, and a toolstack's own agents speak this way too.
const (
	agentCall   = "data/reflinksr/call"
	agentAnswer = "data/reflinksr/answer"
)

type agentRequest struct {
	ID   int      `json:"id"`
	Argv []string `json:"argv"`
}

type agentReply struct {
	ID     int    `json:"id"`
	Output string `json:"output"` // both streams; its end, if it is long
	Error  string `json:"error"`  // "" if it succeeded
}

// outputLimit leaves room for what JSON makes of an output, in bytes.
const outputLimit = 1200

// Serve is the agent: it carries out commands for as long as the guest lives.
func Serve() error {
	xs, err := xenstore.Open()
	if err != nil {
		return err
	}
	defer xs.Close()
	answer := func(r agentReply) error {
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return xs.Write(agentAnswer, string(data))
	}
	if err := answer(agentReply{}); err != nil {
		return err
	}
	last := 0
	for {
		text, err := xs.Read(agentCall)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		var r agentRequest
		if err != nil || json.Unmarshal([]byte(text), &r) != nil || r.ID == last || len(r.Argv) == 0 {
			time.Sleep(30 * time.Millisecond)
			continue
		}
		last = r.ID
		reply := agentReply{ID: r.ID}
		out, err := exec.Command(r.Argv[0], r.Argv[1:]...).CombinedOutput()
		if err != nil {
			reply.Error = err.Error()
		}
		out = bytes.ToValidUTF8(bytes.TrimSpace(out), []byte("?"))
		reply.Output = string(out[max(0, len(out)-outputLimit):])
		if err := answer(reply); err != nil {
			return err
		}
	}
}

// Run has the guest carry out a command, and returns what it printed.
func (d *Domain) Run(timeout time.Duration, argv ...string) (string, error) {
	d.calls++
	request, err := json.Marshal(agentRequest{d.calls, argv})
	if err != nil {
		return "", err
	}
	if err := d.xs.Write(d.path(agentCall), string(request)); err != nil {
		return "", err
	}
	reply, err := d.await(timeout, d.calls)
	if err != nil {
		return "", fmt.Errorf("%s in domain %s: %w", strings.Join(argv, " "), d.Name, err)
	}
	if reply.Error != "" {
		return reply.Output, fmt.Errorf("%s in domain %s: %s: %s", strings.Join(argv, " "), d.Name, reply.Error, reply.Output)
	}
	return reply.Output, nil
}

// await waits for the answer with a number.
func (d *Domain) await(timeout time.Duration, id int) (agentReply, error) {
	deadline := time.Now().Add(timeout)
	for {
		text, err := d.xs.Read(d.path(agentAnswer))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return agentReply{}, err
		}
		var reply agentReply
		if err == nil && json.Unmarshal([]byte(text), &reply) == nil && reply.ID == id {
			return reply, nil
		}
		if !d.Alive() {
			return agentReply{}, errors.New("it is gone")
		}
		if time.Now().After(deadline) {
			return agentReply{}, fmt.Errorf("no answer within %v", timeout)
		}
		time.Sleep(30 * time.Millisecond)
	}
}
