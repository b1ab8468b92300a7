// The one program of the image for tests: it waits, serves or asks, and needs nothing beside itself.
//
//	probe                      waits for SIGTERM (also the pause container of every pod)
//	probe serve :8080          HTTP: each path answers 200 with the host's name; ends in good order on SIGTERM
//	probe get URL              the answer's body; exit 1 and the reason if there is none in 2 s
//	probe connect HOST:PORT    exit 0 if somebody accepts within 2 s, else 1 and the reason
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const patience = 2 * time.Second

func main() {
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) < 3 {
		<-ended.Done()
		return
	}
	if err := run(ended, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ended context.Context, verb, what string) error {
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
