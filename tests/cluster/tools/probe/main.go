// The one program of the image for tests: it waits, serves or asks, and needs nothing beside itself.
//
//	probe                      waits for SIGTERM (also the pause container of every pod)
//	probe serve :8080          HTTP: each path answers 200 with the host's name; ends in good order on SIGTERM
//	probe get URL              the answer's body; exit 1 and the reason if there is none in 2 s
//	probe connect HOST:PORT    exit 0 if somebody accepts within 2 s, else 1 and the reason
//	probe listen TARGET…       tells whoever asks the host's name, until SIGTERM
//	probe try TARGET…          asks all at once; a line each: TARGET, then "open NAME", "refused" or "cut" (2 s of nothing)
//
// A TARGET is tcp:HOST:PORT, udp:HOST:PORT or, to try alone, dns:HOST:PORT, a server of names.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const patience = 2 * time.Second
const known = "kubernetes.default.svc.cluster.local"

func main() {
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) < 3 {
		<-ended.Done()
		return
	}
	if err := run(ended, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ended context.Context, verb string, words []string) error {
	what := words[0]
	switch verb {
	case "serve":
		return serve(ended, what)
	case "get":
		return get(what)
	case "connect":
		connection, err := net.DialTimeout("tcp", what, patience)
		if err == nil {
			connection.Close()
		}
		return err
	case "listen":
		return listen(ended, words)
	case "try":
		tryAll(words)
		return nil
	}
	return fmt.Errorf("no such verb: %s", verb)
}

func serve(ended context.Context, address string) error {
	name, _ := os.Hostname()
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, name)
	})}
	go func() {
		<-ended.Done()
		server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func get(url string) error {
	client := http.Client{Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func listen(ended context.Context, targets []string) error {
	name, _ := os.Hostname()
	for _, target := range targets {
		network, address, _ := strings.Cut(target, ":")
		if network == "udp" {
			socket, err := net.ListenPacket(network, address)
			if err != nil {
				return err
			}
			go func() {
				for buffer := make([]byte, 64); ; {
					if _, caller, err := socket.ReadFrom(buffer); err == nil {
						socket.WriteTo([]byte(name), caller)
					}
				}
			}()
			continue
		}
		listener, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		go func() {
			for {
				if connection, err := listener.Accept(); err == nil {
					connection.Write([]byte(name))
					connection.Close()
				}
			}
		}()
	}
	<-ended.Done()
	return nil
}

func tryAll(targets []string) {
	answers := make([]string, len(targets))
	var all sync.WaitGroup
	for index, target := range targets {
		all.Add(1)
		go func() {
			defer all.Done()
			answers[index] = try(target)
		}()
	}
	all.Wait()
	for index, target := range targets {
		fmt.Println(target, answers[index])
	}
}

func try(target string) string {
	network, address, _ := strings.Cut(target, ":")
	within, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if network == "dns" {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp", address)
		}}
		found, err := resolver.LookupHost(within, known)
		if err != nil {
			return told(err)
		}
		return "open " + found[0]
	}
	connection, err := (&net.Dialer{}).DialContext(within, network, address)
	if err != nil {
		return told(err)
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(patience))
	if network == "udp" {
		connection.Write([]byte("?"))
	}
	buffer := make([]byte, 64)
	count, err := connection.Read(buffer)
	if network == "udp" && err != nil {
		return told(err)
	}
	// Who accepts and waits for a first word of ours is open too: he does not say who he is.
	return "open " + string(buffer[:count])
}

func told(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	return "cut"
}
