// What only the App can do: FiftyOne 1.22 has no operator that moves the playhead of a video. Not built: the
// App's own libraries are globals.
(() => {
  const { Operator, OperatorConfig, registerOperator } = window.__foo__;
  const PLUGIN = "@colortrack/fiftyone-colortrack";
  const SETTLED = 5000; // milliseconds in which a video that was just opened has loaded
  const LONGEST = 20000; // milliseconds to wait for what the server sends
  const MOMENT = 250;

  // number: from 1. While annotating there is another player, out of reach: nothing happens.
  const goTo = (looker, number) => {
    if (!looker?.seekToFrame) return;
    const go = () => looker.seekToFrame(number);
    go();
    if (number === 1) return;
    // A video that is still being loaded cannot go anywhere, and when it can, the App's timeline sets it
    // back to its start.
    looker.addEventListener("load", go);
    const forget = looker.subscribeToState("frameNumber", (now) => now === 1 && setTimeout(go));
    setTimeout(() => {
      looker.removeEventListener("load", go);
      forget();
    }, SETTLED);
  };

  class GoToFrame extends Operator {
    get config() {
      return new OperatorConfig({ name: "go_to_frame", label: "Go to frame", unlisted: true });
    }

    useHooks() {
      return { looker: window.recoil.useRecoilValue(window.__fos__.modalLooker) };
    }

    async execute({ hooks: { looker }, params }) {
      goTo(looker, params.frame_number);
    }
  }

  // An open window does not show new fields; opened again, it does.
  class ReopenSample extends Operator {
    get config() {
      return new OperatorConfig({ name: "reopen_sample", label: "Reopen sample", unlisted: true });
    }

    useHooks() {
      const { fieldSchema, modalLooker, State } = window.__fos__;
      const now = window.React.useRef({});
      now.current.looker = window.recoil.useRecoilValue(modalLooker);
      now.current.schema = window.recoil.useRecoilValue(fieldSchema({ space: State.SPACE.FRAME }));
      const close = window.__fos__.useClearModal();
      const takeOver = window.__fos__.useSetModalState(); // the grid's fields, new ones included
      const open = window.__fos__.useSetExpandedSample();
      return { now, close, takeOver, open };
    }

    // id: of the sample; field: new frame field that the window is to show.
    async execute({ hooks: { now, close, takeOver, open }, params }) {
      const until = async (condition) => {
        for (let waited = 0; waited < LONGEST && !condition(); waited += MOMENT) {
          await new Promise((resolve) => setTimeout(resolve, MOMENT));
        }
      };
      const { looker } = now.current;
      const number = looker?.frameNumber ?? 1;
      await close();
      await until(() => params.field in now.current.schema);
      await takeOver();
      await open({ id: params.id });
      await until(() => now.current.looker && now.current.looker !== looker);
      goTo(now.current.looker, number);
    }
  }

  for (const operator of [GoToFrame, ReopenSample]) registerOperator(operator, PLUGIN);
})();
