// What every client's program in Node is made of: see jobs.py, of which this is the other half.

import { writeFileSync, writeSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";

const PATIENCE_S = 60;
const WORDS = 4;

// What the client prints goes to stderr: stdout is for answers.
console.log = console.info = console.debug = console.error;

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
    const [options] = Array.isArray(args[0]) ? args[0] : args;
    const host = options?.host ?? "localhost";
    if (!["localhost", "127.0.0.1", "::1"].includes(host)) {
        throw new Error(`the client wanted to reach ${host}`);
    }
    return connect.apply(this, args);
};

function speaks(url) {
    return new Promise((resolve, reject) => {
        http.get(`${url}/health`, (answer) => {
            let body = "";
            answer.on("data", (piece) => (body += piece));
            answer.on("end", () => resolve(JSON.parse(body).worker.running > 0));
        }).on("error", reject);
    });
}

// The audio of one utterance, while it arrives.
export class Take {
    constructor(job, rate_hz = null) {
        this.job = job;
        this.rate_hz = rate_hz;
        this.pieces = [];
        this.begun = performance.now();
        this.first_s = 0;
        this.early = false;
    }

    add(piece) {
        if (piece.length === 0) return;
        if (this.pieces.length === 0) {
            this.first_s = (performance.now() - this.begun) / 1000;
            this.early = speaks(this.job.url);
        }
        this.pieces.push(Buffer.from(piece));
    }

    async read(stream) {
        for await (const piece of stream) this.add(piece);
        return this;
    }

    async told() {
        const file = path.join(this.job.folder, `${process.hrtime.bigint()}.audio`);
        writeFileSync(file, Buffer.concat(this.pieces));
        return {
            file,
            rate_hz: this.rate_hz,
            early: await this.early,
            first_s: this.first_s,
            whole_s: (performance.now() - this.begun) / 1000,
        };
    }
}

export async function takes(heard, more = {}) {
    return { takes: await Promise.all(heard.map((take) => take.told())), ...more };
}

export function words(text) {
    const pieces = [];
    for (let start = 0; start < text.length; start += WORDS) {
        pieces.push(text.slice(start, start + WORDS));
    }
    return pieces;
}

function late() {
    return new Promise((_, reject) => {
        const timer = setTimeout(
            () => reject(new Error(`TimeoutError: nothing came in ${PATIENCE_S} s`)),
            PATIENCE_S * 1000,
        );
        timer.unref();
    });
}

export async function run(does) {
    // A client that throws where nobody can catch it has failed the job at hand.
    let failed = () => {};
    process.on("uncaughtException", (error) => failed(error));
    process.on("unhandledRejection", (error) => failed(error));
    for await (const line of createInterface({ input: process.stdin })) {
        const job = JSON.parse(line);
        const thrown = new Promise((_, reject) => (failed = reject));
        let answer;
        try {
            answer = await Promise.race([does[job.do](job), late(), thrown]);
        } catch (error) {
            console.error(error);
            answer = { error: `${error?.constructor?.name}: ${error?.message ?? error}` };
        }
        writeSync(1, JSON.stringify(answer) + "\n");
    }
    process.exit(0);
}
